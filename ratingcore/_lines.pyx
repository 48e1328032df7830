# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernels over lines: wide sums of rated events, their rounding, tax, and shares without a lost remainder.

Judges: ratingcore.rounding, ratingcore.money.split_minor, ratingcore.reference.tax_of. Face: ratingcore.lines,
which checks shapes and bounds and allocates; nothing here allocates, raises or touches a Python object.

Why a sum is two columns. A line may reach 10^15 minor units, which is 10^21 micro and does not fit int64. A sum is
therefore ``whole`` minor units and a ``rest`` of 0 to 999,999 micro, the whole rounded down: ``whole * 10^6 + rest``.
Unlike the halves of a 128-bit integer, both columns can be stored in a database and read by a person.

Why these types. Products go through ``int128`` only where 64 bits may not hold them: __divti3 costs ten times a
64-bit division.
"""

from libc.stdint cimport int64_t, int8_t, uint8_t

cdef extern from *:
    """
    typedef __int128 kopeck_int128;
    """
    ctypedef long long int128 "kopeck_int128"

cdef enum:
    MICRO = 1_000_000

cdef enum Mode:
    HALF_AWAY = 0
    HALF_EVEN = 1
    AWAY = 2
    TOWARD_ZERO = 3
    FLOOR = 4
    CEILING = 5


def sum_lines(const int64_t[::1] amount_micro, const int64_t[::1] line, const uint8_t[::1] reject,
              int64_t[::1] whole, int64_t[::1] rest) -> None:
    """Add every event that was not rejected to its line's sum."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(amount_micro.shape[0]):
            if reject[i] == 0:
                _add(amount_micro[i], &whole[line[i]], &rest[line[i]])


cdef inline void _add(int64_t amount, int64_t* whole, int64_t* rest) noexcept nogil:
    cdef int64_t units = amount // MICRO
    cdef int64_t parts = amount - units * MICRO + rest[0]
    if parts < 0:
        parts += MICRO
        units -= 1
    elif parts >= MICRO:
        parts -= MICRO
        units += 1
    whole[0] += units
    rest[0] = parts


def round_lines(const int64_t[::1] whole, const int64_t[::1] rest, const int8_t[::1] mode, int64_t max_minor,
                int64_t[::1] amount_minor, uint8_t[::1] reject) -> None:
    """Round every sum once by its own mode; beyond ``max_minor`` either way the amount is 0 and the line rejected."""
    cdef Py_ssize_t i
    cdef int64_t amount
    with nogil:
        for i in range(whole.shape[0]):
            amount = _round(whole[i], rest[i], mode[i])
            reject[i] = amount > max_minor or amount < -max_minor
            amount_minor[i] = 0 if reject[i] else amount


cdef inline int64_t _round(int64_t whole, int64_t rest, int mode) noexcept nogil:
    """``whole + rest / 10^6`` with 0 <= rest < 10^6: the choice is always between whole and whole + 1."""
    cdef bint up
    if rest == 0:
        return whole
    if mode == HALF_AWAY:
        up = 2 * rest > MICRO or (2 * rest == MICRO and whole >= 0)
    elif mode == HALF_EVEN:
        up = 2 * rest > MICRO or (2 * rest == MICRO and (whole & 1))
    elif mode == AWAY:
        up = whole >= 0
    elif mode == TOWARD_ZERO:
        up = whole < 0
    elif mode == CEILING:
        up = True
    else:
        up = False
    return whole + up


def tax_lines(const int64_t[::1] amount_minor, const int64_t[::1] rate_ppm, const uint8_t[::1] inside,
              int64_t[::1] net_minor, int64_t[::1] tax_minor, int64_t[::1] gross_minor) -> None:
    """Tax of each line by its rate, taken out of the amount (inside) or put on top of it (outside)."""
    cdef Py_ssize_t i
    cdef int64_t amount, tax
    with nogil:
        for i in range(amount_minor.shape[0]):
            amount = amount_minor[i]
            if inside[i]:
                tax = _share(amount, rate_ppm[i], MICRO + rate_ppm[i])
                net_minor[i], tax_minor[i], gross_minor[i] = amount - tax, tax, amount
            else:
                tax = _share(amount, rate_ppm[i], MICRO)
                net_minor[i], tax_minor[i], gross_minor[i] = amount, tax, amount + tax


cdef inline int64_t _share(int64_t amount, int64_t numerator, int64_t denominator) noexcept nogil:
    """amount * numerator / denominator, half away from zero; |amount| <= 10^15, numerator <= 10^7."""
    cdef int64_t sign = -1 if amount < 0 else 1
    cdef int64_t half = denominator // 2
    cdef int128 wide
    amount *= sign
    if amount < <int64_t>900_000_000_000:  # times 10^7 and a half more stays below 2^63
        return sign * ((amount * numerator + half) // denominator)
    wide = <int128>amount * numerator + half
    return sign * <int64_t>(wide // denominator)


def split_lines(const int64_t[::1] total_minor, const int64_t[::1] first, const int64_t[::1] weight,
                int64_t[::1] part_minor) -> None:
    """Share ``total_minor[g]`` by ``weight[first[g]:first[g + 1]]``: floors first, then one unit each from the front."""
    cdef Py_ssize_t g
    with nogil:
        for g in range(total_minor.shape[0]):
            _split(total_minor[g], first[g], first[g + 1], &weight[0], &part_minor[0])


cdef inline void _split(int64_t total, int64_t first, int64_t last, const int64_t* weight,
                        int64_t* part) noexcept nogil:
    cdef int64_t whole = 0, sign = -1 if total < 0 else 1, left, i
    total *= sign
    left = total
    for i in range(first, last):
        whole += weight[i]
    for i in range(first, last):
        part[i] = <int64_t>(<int128>total * weight[i] // whole)
        left -= part[i]
    for i in range(first, last):
        if left > 0 and weight[i] > 0:
            part[i] += 1
            left -= 1
        part[i] *= sign
