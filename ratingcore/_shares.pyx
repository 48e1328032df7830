# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernel: amounts times a quantity times a share, rounded once to the micro. Judge: ratingcore.rounding.divide.

Face: ratingcore.shares, whose bounds keep the product below 2^123. What is billed for a period is a price times a
count times part of the period's seconds: 10^18 micro times ten licences times two million seconds leaves 64 bits
behind, while most products fit. Those that do take 64 bits, for a 128-bit division is a library call.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from *:
    """
    typedef __int128 kopeck_int128;
    #define kopeck_too_large(a, b, product) __builtin_mul_overflow((a), (b), (product))
    """
    ctypedef long long int128 "kopeck_int128"
    bint too_large "kopeck_too_large" (int64_t a, int64_t b, int64_t* product) noexcept nogil

cdef enum:
    MICRO = 1_000_000


def share_amounts(const int64_t[::1] amount_micro, const int64_t[::1] quantity, const int64_t[::1] num,
                  const int64_t[::1] den, int64_t max_minor, int64_t[::1] whole, int64_t[::1] rest,
                  uint8_t[::1] reject) -> None:
    """amount * quantity * num / den to ``whole * 10^6 + rest``; beyond ``max_minor`` 0, and rejected."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(amount_micro.shape[0]):
            reject[i] = _share(amount_micro[i], quantity[i], num[i], den[i], max_minor, &whole[i], &rest[i])


cdef inline bint _share(int64_t amount, int64_t quantity, int64_t num, int64_t den, int64_t max_minor,
                        int64_t* whole, int64_t* rest) noexcept nogil:
    cdef int64_t product
    cdef int128 wide
    if amount >= 0 and not too_large(amount, quantity, &product) and not too_large(product, num, &product):
        product = product if den == 1 else <int64_t>((<uint64_t>product + <uint64_t>(den // 2)) // <uint64_t>den)
        whole[0] = product // MICRO
        rest[0] = product - whole[0] * MICRO
        return _bounded(max_minor, whole, rest)
    wide = <int128>amount * quantity * num
    wide = -((-wide + den // 2) // den) if wide < 0 else (wide + den // 2) // den
    if wide > <int128>max_minor * MICRO or wide < -<int128>max_minor * MICRO:
        whole[0], rest[0] = 0, 0
        return True
    whole[0] = <int64_t>(wide // MICRO)
    rest[0] = <int64_t>(wide - <int128>whole[0] * MICRO)
    if rest[0] < 0:
        whole[0] -= 1
        rest[0] += MICRO
    return False


cdef inline bint _bounded(int64_t max_minor, int64_t* whole, int64_t* rest) noexcept nogil:
    """A product of 64 bits is at most 9.2 * 10^12 minor units; a smaller bound still holds."""
    if whole[0] < max_minor or (whole[0] == max_minor and rest[0] == 0):
        return False
    whole[0], rest[0] = 0, 0
    return True
