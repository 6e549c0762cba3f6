"""Reading one array while writing others that are known not to overlap it.

Numba cannot say that two arrays are distinct, so LLVM compares their addresses before a vectorised loop, and gives up where
that would be more than 8 comparisons. These two accesses carry the promise instead (LLVM's alias scopes): what `read` loads is
never written by `write`. Indices are not checked and must not be negative.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import load_item, make_array


def _scope(module):
    """The metadata of the one scope that all promises share."""
    domain = module.add_metadata(["bats"])
    return module.add_metadata([module.add_metadata(["bats.read", domain])])


def _address(context, builder, array_type, array, indices):
    array = make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, array, indices, wraparound=False, boundscheck=False)


@intrinsic
def read(typingctx, array, row, column):
    """array[row, column], from memory that no `write` changes."""
    if not (isinstance(array, types.Array) and array.ndim == 2):
        return None

    def generate(context, builder, signature, arguments):
        array_type, *index_types = signature.args
        indices = [context.cast(builder, value, own, types.intp) for value, own in zip(arguments[1:], index_types, strict=True)]
        value = load_item(context, builder, array_type, _address(context, builder, array_type, arguments[0], indices))
        value.set_metadata("alias.scope", _scope(builder.module))
        return value

    return array.dtype(array, row, column), generate


@intrinsic
def write(typingctx, array, place, value):
    """array[place] = value, in memory that no `read` sees."""
    if not (isinstance(array, types.Array) and array.ndim == 1):
        return None

    def generate(context, builder, signature, arguments):
        array_type, place_type, _ = signature.args
        index = context.cast(builder, arguments[1], place_type, types.intp)
        address = _address(context, builder, array_type, arguments[0], [index])
        data = context.get_value_as_data(builder, array_type.dtype, arguments[2])
        builder.store(data, address, align=context.get_abi_sizeof(data.type)).set_metadata("noalias", _scope(builder.module))
        return context.get_dummy_value()

    return types.void(array, place, array.dtype), generate
