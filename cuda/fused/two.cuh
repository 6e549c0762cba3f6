#pragma once
// Two numbers that are loaded together.

template <typename real>
struct Two;
template <>
struct Two<float> {
    using type = float2;
};
template <>
struct Two<double> {
    using type = double2;
};
