"""Vectors of 64 bytes in Numba functions: 16 float32 or 8 float64, for loops that keep their sums in registers.

LLVM vectorises an inner loop over an array; it does not hold a and b of 16 neurons in registers while a loop walks their events.
These types do, on any processor: where registers are shorter, LLVM takes several. Between vectors of one type, or a vector and a
number of its dtype: + - * / (multiply and add may become one instruction), comparisons, which give a mask; & | between masks.
Indices are not checked and must not be negative.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import load_item, make_array

BYTES = 64
_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: ir.IntType(32), types.boolean: ir.IntType(1)}


def lanes_of(dtype):
    """Lanes of a vector of this NumPy dtype."""
    return BYTES // dtype.itemsize


class Vector(types.Type):
    """`lanes` numbers of a Numba dtype; boolean: a mask."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Vector({dtype}, {lanes})")

    @property
    def code(self):
        return ir.VectorType(_ELEMENTS[self.dtype], self.lanes)

    @property
    def suffix(self):
        """Of the names of LLVM's functions."""
        return f"v{self.lanes}{'i' if self.dtype in (types.int32, types.boolean) else 'f'}{_ELEMENTS[self.dtype].intrinsic_name[1:]}"


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.code)


def _of(dtype):
    return Vector(dtype, BYTES * 8 // dtype.bitwidth)


def _mask(kind):
    return Vector(types.boolean, kind.lanes)


def _splat(builder, value, lanes):
    first = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _numbers(lanes):
    return ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(lanes)))


# Operators ------------------------------------------------------------------------------------------------------------
def _binary(op, emit, gives_mask, on_masks=False):
    @infer_global(op)
    class Template(AbstractTemplate):
        def generic(self, arguments, keywords):
            vectors = [kind for kind in arguments if isinstance(kind, Vector)]
            if len(arguments) != 2 or not vectors or any((kind.dtype is types.boolean) != on_masks for kind in vectors):
                return None
            if any(kind not in (vectors[0], vectors[0].dtype) for kind in arguments):
                return None
            return signature(_mask(vectors[0]) if gives_mask else vectors[0], *arguments)

    def lower(context, builder, sig, arguments):
        lanes = next(kind.lanes for kind in sig.args if isinstance(kind, Vector))
        pairs = zip(sig.args, arguments, strict=True)
        return emit(builder, *(value if isinstance(kind, Vector) else _splat(builder, value, lanes) for kind, value in pairs))

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(op, *kinds)(lower)


_FLAGS = ("contract",)
_binary(operator.add, lambda b, x, y: b.fadd(x, y, flags=_FLAGS), False)
_binary(operator.sub, lambda b, x, y: b.fsub(x, y, flags=_FLAGS), False)
_binary(operator.mul, lambda b, x, y: b.fmul(x, y, flags=_FLAGS), False)
_binary(operator.truediv, lambda b, x, y: b.fdiv(x, y), False)
_binary(operator.gt, lambda b, x, y: b.fcmp_ordered(">", x, y), True)
_binary(operator.ge, lambda b, x, y: b.fcmp_ordered(">=", x, y), True)
_binary(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), True)
_binary(operator.and_, lambda b, x, y: b.and_(x, y), False, on_masks=True)
_binary(operator.or_, lambda b, x, y: b.or_(x, y), False, on_masks=True)


# Functions ------------------------------------------------------------------------------------------------------------
def _call(builder, name, result, arguments, fastmath=()):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments, fastmath=fastmath)


def _address(context, builder, array_type, array, indices, index_types):
    indices = [context.cast(builder, index, kind, types.intp) for index, kind in zip(indices, index_types, strict=True)]
    struct = make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, struct, indices, wraparound=False, boundscheck=False)


def _is_array(kind, n_axes, dtype=None):
    return isinstance(kind, types.Array) and kind.ndim == n_axes and dtype in (None, kind.dtype)


@intrinsic
def splat(typingctx, number):
    """number in all lanes."""
    kind = _of(number)
    return kind(number), lambda context, builder, sig, arguments: _splat(builder, arguments[0], kind.lanes)


@intrinsic
def load(typingctx, array, row, column):
    """array[row, column : column + lanes]."""
    if not _is_array(array, 2):
        return None
    kind = _of(array.dtype)

    def generate(context, builder, sig, arguments):
        address = _address(context, builder, array, arguments[0], arguments[1:], sig.args[1:])
        return builder.load(builder.bitcast(address, kind.code.as_pointer()), align=array.dtype.bitwidth // 8)

    return kind(array, row, column), generate


@intrinsic
def store(typingctx, array, row, column, vector):
    """array[row, column : column + lanes] = vector."""
    if not (isinstance(vector, Vector) and _is_array(array, 2, vector.dtype)):
        return None

    def generate(context, builder, sig, arguments):
        address = _address(context, builder, array, arguments[0], arguments[1:3], sig.args[1:3])
        builder.store(arguments[3], builder.bitcast(address, vector.code.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, row, column, vector), generate


@intrinsic
def number(typingctx, array, place):
    """array[place]."""
    if not _is_array(array, 1):
        return None

    def generate(context, builder, sig, arguments):
        return load_item(context, builder, array, _address(context, builder, array, arguments[0], arguments[1:], sig.args[1:]))

    return array.dtype(array, place), generate


def _row_address(context, builder, array_type, array, row, index_type):
    """That of a row which is as long as a vector: a constant stride costs one instruction less than array.shape."""
    first = builder.bitcast(make_array(array_type)(context, builder, array).data, _of(array_type.dtype).code.as_pointer())
    return builder.gep(first, [context.cast(builder, row, index_type, types.intp)])


@intrinsic
def load_row(typingctx, array, row):
    """array[row], of a C-contiguous array [rows, lanes]."""
    if not (_is_array(array, 2) and array.layout == "C"):
        return None
    kind = _of(array.dtype)

    def generate(context, builder, sig, arguments):
        return builder.load(_row_address(context, builder, array, *arguments, sig.args[1]), align=array.dtype.bitwidth // 8)

    return kind(array, row), generate


@intrinsic
def store_row(typingctx, array, row, vector):
    """array[row] = vector, for a C-contiguous array [rows, lanes]."""
    if not (isinstance(vector, Vector) and _is_array(array, 2, vector.dtype) and array.layout == "C"):
        return None

    def generate(context, builder, sig, arguments):
        address = _row_address(context, builder, array, *arguments[:2], sig.args[1])
        builder.store(arguments[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, row, vector), generate


@intrinsic
def compress(typingctx, array, place, vector, mask):
    """The lanes of vector that mask selects become array[place], array[place + 1] ...; what follows, `lanes` in all, is overwritten."""
    if not (isinstance(vector, Vector) and _is_array(array, 1, vector.dtype) and mask == _mask(vector)):
        return None

    def generate(context, builder, sig, arguments):
        address = _address(context, builder, array, arguments[0], arguments[1:2], sig.args[1:2])
        rest = ir.Constant(vector.code, ir.Undefined)
        packed = _call(builder, f"llvm.experimental.vector.compress.{vector.suffix}", vector.code, (*arguments[2:], rest))
        builder.store(packed, builder.bitcast(address, vector.code.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, place, vector, mask), generate


@intrinsic
def expand(typingctx, array, place, mask):
    """The inverse: array[place], array[place + 1] ... in the lanes that mask selects, 0 in the others."""
    if not (_is_array(array, 1) and mask == _mask(_of(array.dtype))):
        return None
    kind = _of(array.dtype)

    def generate(context, builder, sig, arguments):
        address = _address(context, builder, array, arguments[0], arguments[1:2], sig.args[1:2])
        rest = ir.Constant(kind.code, [0.0] * kind.lanes)
        return _call(builder, f"llvm.masked.expandload.{kind.suffix}", kind.code, (address, arguments[2], rest))

    return kind(array, place, mask), generate


@intrinsic
def bits(typingctx, mask):
    """The mask as an integer below 2^lanes."""

    def generate(context, builder, sig, arguments):
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(mask.lanes)), ir.IntType(64))

    return types.int64(mask), generate


@intrinsic
def mask_of(typingctx, number, like):
    """The inverse, of the lowest bits of an int64, for vectors like `like`."""
    kind = _mask(like)

    def generate(context, builder, sig, arguments):
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(kind.lanes)), kind.code)

    return kind(types.int64, like), generate


@intrinsic
def numbers(typingctx, first, like):
    """int32: first, first + 1, ... in as many lanes as `like` has."""
    kind = Vector(types.int32, like.lanes)

    def generate(context, builder, sig, arguments):
        start = context.cast(builder, arguments[0], first, types.int32)
        return builder.add(_splat(builder, start, kind.lanes), _numbers(kind.lanes))

    return kind(first, like), generate


@intrinsic
def some(typingctx, mask):
    """Whether any lane is selected."""

    def generate(context, builder, sig, arguments):
        bits = builder.bitcast(arguments[0], ir.IntType(mask.lanes))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), generate


@intrinsic
def how_many(typingctx, mask):
    """Number of lanes selected."""

    def generate(context, builder, sig, arguments):
        bits = builder.zext(builder.bitcast(arguments[0], ir.IntType(mask.lanes)), ir.IntType(64))
        return _call(builder, "llvm.ctpop.i64", bits.type, (bits,))

    return types.int64(mask), generate


@intrinsic
def select(typingctx, mask, yes, no):
    """yes where mask, else no."""
    if not (isinstance(yes, Vector) and yes == no and mask == _mask(yes)):
        return None
    return yes(mask, yes, no), lambda context, builder, sig, arguments: builder.select(*arguments)


@intrinsic
def root(typingctx, vector):
    """Square root."""

    def generate(context, builder, sig, arguments):
        return _call(builder, f"llvm.sqrt.{vector.suffix}", vector.code, arguments)

    return vector(vector), generate


@intrinsic
def least(typingctx, one, two):
    """The smaller one of each lane; `two` where one of them is NaN."""
    if not (isinstance(one, Vector) and one == two):
        return None
    return one(one, two), lambda _, builder, sig, pair: builder.select(builder.fcmp_ordered("<", *pair), *pair)


@intrinsic
def greatest(typingctx, one, two):
    """The larger one of each lane; `two` where one of them is NaN."""
    if not (isinstance(one, Vector) and one == two):
        return None
    return one(one, two), lambda _, builder, sig, pair: builder.select(builder.fcmp_ordered(">", *pair), *pair)


@intrinsic
def total(typingctx, vector):
    """Sum over the lanes."""

    def generate(context, builder, sig, arguments):
        start = ir.Constant(vector.code.element, 0.0)
        name = f"llvm.vector.reduce.fadd.{vector.suffix}"
        return _call(builder, name, start.type, (start, arguments[0]), fastmath=("reassoc",))

    return vector.dtype(vector), generate
