"""Outside dialects as pure functions: partner protocols, registers, accounting files, SSO claims.

Rules. Nothing here does I/O, reads a clock or keeps state: keys and time are arguments. Any bytes decode to a
request or to a DecodeError. `messages` is the waist between every dialect and the gateway.
"""
