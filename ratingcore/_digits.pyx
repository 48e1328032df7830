# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Kernel: telephone numbers as text to packed keys. Judge: ratingcore.digits.pack_number. Face: ratingcore.digits."""

from libc.stdint cimport uint8_t, uint64_t


def pack_numbers(const uint8_t[:, ::1] text, uint64_t[::1] key, uint64_t no_number) -> None:
    """Each row of ``text`` is a number in ASCII, padded with NULs; a row with anything else becomes ``no_number``."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(text.shape[0]):
            key[i] = _pack(&text[i, 0], text.shape[1], no_number)


cdef inline uint64_t _pack(const uint8_t* text, Py_ssize_t width, uint64_t no_number) noexcept nogil:
    cdef uint64_t packed = 0
    cdef Py_ssize_t i = 0
    cdef uint8_t digit
    while i < width and text[i] != 0:
        digit = text[i] - 48
        if digit > 9:
            return no_number
        if i < 16:
            packed |= <uint64_t>(digit if digit else 10) << (60 - 4 * i)
        i += 1
    while i < width:
        if text[i] != 0:
            return no_number
        i += 1
    return packed
