from ratingcore.arrays import Bytes, Ints

def share_amounts(
    amount_micro: Ints, quantity: Ints, num: Ints, den: Ints, max_minor: int, whole: Ints, rest: Ints, reject: Bytes
) -> None: ...
