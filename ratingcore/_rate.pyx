# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=False
"""Kernel: rate events through compiled tariffs. Judge: ratingcore.reference. Face: ratingcore.rate.

One C function per step, one for an event, one loop. Tables come from ratingcore.compile and are only read; meters and
pools are read and written; nothing allocates, raises or touches a Python object while the loop runs.

Why it looks like this (figures: one thread of a shared 2-core machine, 2 M events on 1 M accounts in random order):
- A tariff that is one curve or one rate card (most usage) skips the frame, the snapshot and the walk over steps.
- Line records, meters and ranges of prefixes miss every cache, so they are prefetched some events ahead. Graduated
  usage: 8 M events/s without, 34 M with.
- A call whose tariff is one rate card remembers nothing, so its turn does not matter: such calls wait until there are
  CALLS of them and go through in passes, each of which asks the memory for what the next one reads. On 50,000
  prefixes: a few M calls/s without prefetching, 20 M with prefetching one by one, 30 M in passes.
- A call at ordinary terms (``Rate.narrow``) is priced in 64 bits without a frame.
- 64 bits where ``narrow`` of the step allows, 128 otherwise: a 128-bit division is a library call.
- A rejected event must leave no trace, and a step may reject after others have written. The words of the line and the
  pools of its owner are few, so they are copied before and put back, which is cheaper than deciding twice.
- Several threads share the columns; each picks the events of its own range of lines, so no two write one meter or
  pool, and events keep their order within a line. Picking first spares every thread a guess at each event.

Long because the steps call one another without a call's cost only within one file.

``int128`` is GCC's and Clang's ``__int128``; bounds that exclude its overflow are asserted in ratingcore.tariff.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    typedef __int128 kopeck_int128;
    #define kopeck_prefetch_to_read(address) __builtin_prefetch((address), 0)
    #define kopeck_prefetch_to_write(address) __builtin_prefetch((address), 1)
    """
    ctypedef long long int128 "kopeck_int128"
    void prefetch_to_read "kopeck_prefetch_to_read" (const void* address) noexcept nogil
    void prefetch_to_write "kopeck_prefetch_to_write" (const void* address) noexcept nogil

cdef enum:
    AHEAD_LINE = 64
    AHEAD_METER = 16
    AHEAD_RANGE = 8
    AHEAD_RATE = 4
    CALLS = 128
    FEW_RATES = 4_096
    MAX_METERS = 64
    MAX_POOLS = 16
    LINEAR_TIERS = 8
    EDGE_SHIFT = 15
    MICRO = 1_000_000
    NARROW_CALL = 1_073_741_824

cdef enum Kind:
    FLAT = 0
    CURVE = 1
    PERCENTAGE = 2
    INCREMENTS = 3
    ALLOWANCE = 4
    POOL = 5
    RATE_CARD = 6
    MULTIPLIER = 7
    CAP = 8
    COMMITMENT = 9

cdef enum Single:
    SINGLE_CURVE = 1
    SINGLE_CARD = 2

cdef enum Reject:
    LATER = -1
    OK = 0
    BAD_LINE = 1
    BAD_QUANTITY = 2
    BAD_DURATION = 3
    OUT_OF_HORIZON = 4
    NO_PRICE = 5
    NO_RATE = 6
    OUT_OF_RANGE = 7
    BAD_DESTINATION = 8

cdef int64_t MAX_QUANTITY = 1_000_000_000_000_000_000
cdef int64_t MAX_METER = 4_000_000_000_000_000_000
cdef int64_t MAX_EVENT_MICRO = 9_000_000_000_000_000_000
cdef int64_t MAX_DURATION_S = 31 * 86_400
cdef uint64_t NO_NUMBER = 0xFFFF_FFFF_FFFF_FFFF
cdef uint32_t ALWAYS = 0xFFFF_FFFF
cdef uint32_t NO_BAND = 0

cdef struct Tier:
    int64_t upper
    int64_t origin
    int64_t price
    int64_t rest
    uint64_t base_low
    int64_t base_high

cdef struct Step:
    int32_t kind
    int32_t slot
    int32_t slot2
    int32_t by_event
    int32_t first
    int32_t count
    int32_t by_block
    uint32_t bands
    int64_t per
    int64_t narrow
    int64_t a
    int64_t b
    int64_t c
    int64_t d

cdef struct Tariff:
    int32_t first_step
    int32_t steps
    int32_t calendar
    int32_t single

cdef struct Version:
    int64_t since_s
    int64_t tariff

cdef struct Price:
    int32_t first_version
    int32_t versions
    int32_t slots
    int32_t card

cdef struct Rate:
    int64_t price
    int64_t per
    int64_t fee
    int64_t minimum
    int64_t first
    int64_t next
    int64_t grace
    int64_t narrow

cdef struct Range:
    uint64_t start
    int32_t rate
    int32_t row

cdef struct Card:
    int64_t first_index
    int64_t shift
    int64_t rounds

cdef struct Calendar:
    int64_t start_s
    int64_t first_index
    int64_t last_edge

cdef struct Line:
    int32_t price
    int32_t owner
    int64_t base

cdef struct Book:
    int64_t start_s
    int64_t end_s
    int64_t pools
    const Price* prices
    const Version* versions
    const Tariff* tariffs
    const Step* steps
    const Tier* tiers
    const Rate* rates
    const Card* cards
    const int32_t* card_index
    const Range* ranges
    const Calendar* calendars
    const int32_t* calendar_index
    const int64_t* edges
    const int32_t* edge_band

cdef struct Event:
    int64_t time_s
    int64_t quantity
    int64_t duration_s
    uint64_t destination
    bint closing

cdef struct Frame:
    # one part
    int64_t quantity
    int128 amount
    # the whole event
    int64_t seen
    int64_t counted
    int128 raw
    int128 paid
    bint connected

cdef struct Out:
    int64_t amount
    int32_t version
    int32_t tier
    int32_t rate

# A call on a tariff of one card, waiting to be rated with others.
cdef struct Call:
    const Step* step
    const Range* span
    Py_ssize_t row
    int64_t left
    uint64_t destination
    uint32_t quantity
    int32_t version

cdef struct Columns:
    int64_t* amount
    int32_t* version
    int32_t* tier
    int32_t* rate
    uint8_t* reject


def limits() -> tuple:
    """The limits this kernel was built with, in the order in which ratingcore.rate asserts them at import."""
    return (MAX_QUANTITY, MAX_METER, MAX_EVENT_MICRO, MAX_DURATION_S, MAX_METERS, MAX_POOLS, EDGE_SHIFT, NO_NUMBER)


def rate_columns(
    int64_t start_s, int64_t end_s, int64_t pool_count,
    const Price[::1] prices, const Version[::1] versions, const Tariff[::1] tariffs, const Step[::1] steps,
    const Tier[::1] tiers, const Rate[::1] rates, const Card[::1] cards, const int32_t[::1] card_index,
    const Range[::1] ranges, const Calendar[::1] calendars, const int32_t[::1] calendar_index,
    const int64_t[::1] edges, const int32_t[::1] edge_band,
    const Line[::1] lines, int64_t[::1] meters, int64_t[::1] pools,
    const int64_t[::1] line, const int64_t[::1] time_s, const int64_t[::1] quantity, const int64_t[::1] duration_s,
    const uint64_t[::1] destination, bint closing, bint picked, const int64_t[::1] picks,
    int64_t[::1] amount_micro, int32_t[::1] version, int32_t[::1] tier, int32_t[::1] rate, uint8_t[::1] reject,
) -> None:
    """Rate the events at ``picks``, ascending, or all of them where not ``picked``.

    ``duration_s`` and ``destination`` may be empty: no event has any. Meters and pools never have length 0.
    """
    cdef Book book
    book.start_s, book.end_s, book.pools = start_s, end_s, pool_count
    book.prices, book.versions, book.tariffs, book.steps = &prices[0], &versions[0], &tariffs[0], &steps[0]
    book.tiers, book.rates, book.cards, book.card_index = &tiers[0], &rates[0], &cards[0], &card_index[0]
    book.ranges, book.calendars = &ranges[0], &calendars[0]
    book.calendar_index, book.edges, book.edge_band = &calendar_index[0], &edges[0], &edge_band[0]
    cdef Py_ssize_t i, ahead, number, count = picks.shape[0] if picked else line.shape[0]
    cdef int64_t row, line_count = lines.shape[0]
    cdef bint timed = duration_s.shape[0] > 0, dialled = destination.shape[0] > 0
    cdef bint among = False, many_rates = rates.shape[0] > FEW_RATES
    cdef int32_t waiting = 0
    cdef int code
    cdef Call[CALLS] calls
    cdef Columns columns
    cdef Event event
    cdef Out out
    event.closing = closing
    event.duration_s, event.destination = 0, 0
    columns.amount, columns.version, columns.tier = &amount_micro[0], &version[0], &tier[0]
    columns.rate, columns.reject = &rate[0], &reject[0]
    with nogil:
        for i in range(prices.shape[0] if dialled else 0):
            if prices[i].card >= 0:
                among = True
                break
        for number in range(count):
            i = picks[number] if picked else number
            if number + AHEAD_LINE < count:
                row = line[picks[number + AHEAD_LINE] if picked else number + AHEAD_LINE]
                prefetch_to_read(&lines[0] + row)
                ahead = picks[number + AHEAD_METER] if picked else number + AHEAD_METER
                row = line[ahead]
                if 0 <= row < line_count:
                    prefetch_to_write(&meters[0] + lines[row].base)
                    if among:
                        _prefetch_index(&book, &lines[row], destination[ahead])
                if among:
                    ahead = picks[number + AHEAD_RANGE] if picked else number + AHEAD_RANGE
                    row = line[ahead]
                    if 0 <= row < line_count:
                        _prefetch_range(&book, &lines[row], destination[ahead])
                if among and many_rates:
                    ahead = picks[number + AHEAD_RATE] if picked else number + AHEAD_RATE
                    row = line[ahead]
                    if 0 <= row < line_count:
                        _prefetch_rate(&book, &lines[row], destination[ahead])
            row = line[i]
            if row < 0 or row >= line_count:
                amount_micro[i], version[i], tier[i], rate[i], reject[i] = 0, -1, -1, -1, BAD_LINE
                continue
            event.time_s, event.quantity = time_s[i], quantity[i]
            if timed:
                event.duration_s = duration_s[i]
            if dialled:
                event.destination = destination[i]
            out.amount, out.version, out.tier, out.rate = 0, -1, -1, -1
            code = _event(&book, &lines[row], &event, &meters[0] + lines[row].base,
                          &pools[0] + lines[row].owner * pool_count, calls + waiting, &out)
            if code != LATER:
                amount_micro[i], version[i], tier[i], rate[i] = out.amount, out.version, out.tier, out.rate
                reject[i] = code
                continue
            calls[waiting].row = i
            waiting += 1
            if waiting == CALLS:
                _rate_calls(&book, calls, waiting, many_rates, &columns)
                waiting = 0
        _rate_calls(&book, calls, waiting, many_rates, &columns)


cdef inline int _event(const Book* book, const Line* line, const Event* event, int64_t* meters, int64_t* pools,
                       Call* call, Out* out) noexcept nogil:
    """A Reject, or LATER: nothing is decided but what ``call`` holds."""
    cdef const Price* price = book.prices + line.price
    cdef const Tariff* tariff
    cdef int32_t v = price.versions - 1
    if event.quantity < 0 or event.quantity > MAX_QUANTITY:
        return BAD_QUANTITY
    if event.duration_s < 0 or event.duration_s > MAX_DURATION_S:
        return BAD_DURATION
    if event.destination == NO_NUMBER:
        return BAD_DESTINATION
    if event.time_s < book.start_s or event.time_s >= book.end_s:
        return OUT_OF_HORIZON
    while v >= 0 and book.versions[price.first_version + v].since_s > event.time_s:
        v -= 1
    if v < 0:
        return NO_PRICE
    tariff = book.tariffs + book.versions[price.first_version + v].tariff
    if tariff.single == SINGLE_CURVE:
        return _single_curve(book, book.steps + tariff.first_step, event.quantity, v, meters, out)
    if tariff.single == SINGLE_CARD:
        return _single_card(book, book.steps + tariff.first_step, event, v, call, out)
    return _guarded(book, tariff, price.slots, event, v, meters, pools, out)


cdef uint8_t _guarded(const Book* book, const Tariff* tariff, int32_t slots, const Event* event, int32_t version,
                      int64_t* meters, int64_t* pools, Out* out) noexcept nogil:
    """Rate through all steps; put meters and pools back if any of them rejects."""
    cdef int64_t[MAX_METERS] meters_before
    cdef int64_t[MAX_POOLS] pools_before
    cdef uint8_t reject
    cdef int128 total = 0
    memcpy(meters_before, meters, slots * sizeof(int64_t))
    memcpy(pools_before, pools, book.pools * sizeof(int64_t))
    out.version = version
    if tariff.calendar < 0 or event.closing:
        reject = _whole(book, tariff, event, meters, pools, &total, out)
    else:
        reject = _by_bands(book, tariff, event, meters, pools, &total, out)
    if reject == OK and (total > MAX_EVENT_MICRO or total < -MAX_EVENT_MICRO):
        reject = OUT_OF_RANGE
    if reject == OK:
        out.amount = <int64_t>total
        return OK
    memcpy(meters, meters_before, slots * sizeof(int64_t))
    memcpy(pools, pools_before, book.pools * sizeof(int64_t))
    out.version, out.tier, out.rate = -1, -1, -1
    return reject


cdef inline void _start(const Book* book, const Tariff* tariff, int64_t* meters, Frame* frame) noexcept nogil:
    """A new event: nothing counted yet, and meters that count within an event at zero."""
    cdef int32_t i
    cdef const Step* step
    frame.seen, frame.counted, frame.raw, frame.paid, frame.connected = 0, 0, 0, 0, False
    for i in range(tariff.steps):
        step = book.steps + tariff.first_step + i
        if step.kind == PERCENTAGE:
            meters[step.slot2] = 0
        elif step.by_event:
            meters[step.slot] = 0
            if step.kind == CAP:
                meters[step.slot + 1] = 0


cdef uint8_t _whole(const Book* book, const Tariff* tariff, const Event* event, int64_t* meters, int64_t* pools,
                    int128* total, Out* out) noexcept nogil:
    """An event that is one part: no calendar, or a close, which belongs to no band."""
    cdef Frame frame
    _start(book, tariff, meters, &frame)
    return _part(book, tariff, event, NO_BAND, event.quantity, meters, pools, &frame, total, out)


cdef uint8_t _by_bands(const Book* book, const Tariff* tariff, const Event* event, int64_t* meters, int64_t* pools,
                       int128* total, Out* out) noexcept nogil:
    """Cut the event at the edges of its calendar; a cut has passed floor(quantity * elapsed / duration)."""
    cdef Frame frame
    cdef const Calendar* calendar = book.calendars + tariff.calendar
    cdef int64_t end_s = event.time_s + event.duration_s, passed = 0, reached
    cdef int64_t edge = book.calendar_index[
        calendar.first_index + ((event.time_s - calendar.start_s) >> EDGE_SHIFT)]
    cdef uint8_t reject
    _start(book, tariff, meters, &frame)
    while edge < calendar.last_edge and book.edges[edge + 1] <= event.time_s:
        edge += 1
    while edge < calendar.last_edge and book.edges[edge + 1] < end_s:
        reached = _passed(event, book.edges[edge + 1] - event.time_s)
        reject = _part(book, tariff, event, <uint32_t>1 << book.edge_band[edge], reached - passed, meters, pools,
                       &frame, total, out)
        if reject != OK:
            return reject
        passed = reached
        edge += 1
    return _part(book, tariff, event, <uint32_t>1 << book.edge_band[edge], event.quantity - passed, meters, pools,
                 &frame, total, out)


cdef inline int64_t _passed(const Event* event, int64_t elapsed_s) noexcept nogil:
    cdef int128 wide
    if event.quantity == event.duration_s:
        return elapsed_s
    wide = event.quantity
    wide = wide * elapsed_s // event.duration_s
    return <int64_t>wide


cdef inline uint8_t _part(const Book* book, const Tariff* tariff, const Event* event, uint32_t band, int64_t quantity,
                          int64_t* meters, int64_t* pools, Frame* frame, int128* total, Out* out) noexcept nogil:
    """Run one part through the steps. No amount passes 10^15 minor units on its way."""
    cdef int128 most = <int128>1_000_000_000_000_000 * MICRO
    cdef const Step* step = book.steps + tariff.first_step
    cdef uint8_t reject
    cdef int32_t i
    frame.quantity, frame.amount = quantity, 0
    for i in range(tariff.steps):
        if step.bands == ALWAYS or step.bands & band:
            reject = _step(book, step, event, meters, pools, frame, out)
            if reject != OK:
                return reject
            if frame.amount > most or frame.amount < -most:
                return OUT_OF_RANGE
        step += 1
    total[0] += frame.amount
    return OK


cdef inline uint8_t _step(const Book* book, const Step* step, const Event* event, int64_t* meters, int64_t* pools,
                          Frame* frame, Out* out) noexcept nogil:
    if step.kind == CURVE:
        return _curve(book, step, meters, frame, out)
    if step.kind == RATE_CARD:
        return _rate_card(book, step, event, frame, out)
    if step.kind == CAP:
        return _cap(step, meters, frame)
    if step.kind == COMMITMENT:
        return _commitment(step, event.closing, meters, frame)
    if step.kind == FLAT:
        _flat(step, event.closing, meters, frame)
    elif step.kind == PERCENTAGE:
        _percentage(step, event.closing, meters, frame)
    elif step.kind == INCREMENTS:
        _increments(step.a, step.b, step.c, event.quantity, frame)
    elif step.kind == ALLOWANCE:
        _allowance(step, meters, frame)
    elif step.kind == POOL:
        _pool(step, pools, frame)
    else:
        _multiply(step, frame)
    return OK


# ---- curves


cdef inline uint8_t _single_curve(const Book* book, const Step* step, int64_t quantity, int32_t version,
                                  int64_t* meters, Out* out) noexcept nogil:
    """A tariff of one curve: nothing is written before everything is known."""
    cdef int64_t before = meters[step.slot], after = before + quantity
    cdef int32_t tier
    cdef int128 wide
    if after > MAX_METER:
        return OUT_OF_RANGE
    if after <= step.narrow:
        out.amount = _narrow(book, step, after, &tier) - _narrow(book, step, before, &out.tier)
    else:
        wide = _wide(book, step, after, &tier) - _wide(book, step, before, &out.tier)
        if wide > MAX_EVENT_MICRO or wide < -MAX_EVENT_MICRO:
            out.tier = -1
            return OUT_OF_RANGE
        out.amount = <int64_t>wide
    meters[step.slot] = after
    out.tier, out.version = tier, version
    return OK


cdef inline uint8_t _curve(const Book* book, const Step* step, int64_t* meters, Frame* frame, Out* out) noexcept nogil:
    cdef int64_t before = meters[step.slot], after = before + frame.quantity
    cdef int32_t tier
    if after > MAX_METER:
        return OUT_OF_RANGE
    if after <= step.narrow:
        frame.amount += _narrow(book, step, after, &tier) - _narrow(book, step, before, &out.tier)
    else:
        frame.amount += _wide(book, step, after, &tier) - _wide(book, step, before, &out.tier)
    meters[step.slot] = after
    out.tier = tier
    return OK


cdef inline int32_t _tier_of(const Tier* tiers, int32_t count, int64_t quantity) noexcept nogil:
    """The first tier whose upper bound is not below the quantity; the last one's is beyond every meter."""
    cdef int32_t low = 0, high = count - 1, middle
    if count <= LINEAR_TIERS:
        while quantity > tiers[low].upper:
            low += 1
        return low
    while low < high:
        middle = (low + high) >> 1
        if quantity > tiers[middle].upper:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline int64_t _narrow(const Book* book, const Step* step, int64_t quantity, int32_t* index) noexcept nogil:
    """F(quantity) where 64 bits hold all of it."""
    cdef const Tier* tier = book.tiers + step.first
    cdef uint64_t part
    index[0] = _tier_of(tier, step.count, quantity)
    tier += index[0]
    if quantity == 0:
        return 0
    if step.per == 1:
        part = tier.price * (quantity - tier.origin)
    elif step.by_block:
        part = tier.price * (<uint64_t>(quantity - tier.origin + step.per - 1) // <uint64_t>step.per)
    else:
        part = <uint64_t>(tier.rest + tier.price * (quantity - tier.origin) + step.per // 2) // <uint64_t>step.per
    return <int64_t>(tier.base_low + part)


cdef int128 _wide(const Book* book, const Step* step, int64_t quantity, int32_t* index) noexcept nogil:
    """F(quantity) in 128 bits."""
    cdef const Tier* tier = book.tiers + step.first
    cdef int128 base, part
    index[0] = _tier_of(tier, step.count, quantity)
    tier += index[0]
    if quantity == 0:
        return 0
    base = tier.base_high
    base = (base << 64) + tier.base_low
    part = tier.price
    if step.by_block:
        part = part * ((quantity - tier.origin + step.per - 1) // step.per)
    else:
        part = (part * (quantity - tier.origin) + tier.rest + step.per // 2) // step.per
    return base + part


# ---- rate cards and increments


cdef inline void _prefetch_index(const Book* book, const Line* line, uint64_t destination) noexcept nogil:
    """The index entry of the card that the line's price uses; a hint, so a price with several cards has one hinted."""
    cdef int32_t card = book.prices[line.price].card
    if card >= 0:
        prefetch_to_read(book.card_index + book.cards[card].first_index + (destination >> book.cards[card].shift))


cdef inline void _prefetch_range(const Book* book, const Line* line, uint64_t destination) noexcept nogil:
    """Both ends of what the index leaves open: a few ranges, often on two lines of the cache."""
    cdef int32_t card = book.prices[line.price].card
    cdef const int32_t* index
    if card >= 0:
        index = book.card_index + book.cards[card].first_index + (destination >> book.cards[card].shift)
        prefetch_to_read(book.ranges + index[0])
        prefetch_to_read(book.ranges + index[1])


cdef inline const Range* _range_of(const Book* book, const Card* card, uint64_t destination) noexcept nogil:
    """The last range that starts at or before the key: the longest prefix, or none where its rate is -1."""
    cdef const int32_t* index = book.card_index + card.first_index + (destination >> card.shift)
    return _narrowed(book.ranges + index[0], index[1] - index[0] + 1, card.rounds, destination)


cdef inline const Range* _narrowed(const Range* low, int64_t left, int64_t rounds, uint64_t destination) noexcept nogil:
    """Always as many halvings as the card's fullest entry needs: one more costs less than a branch guessed wrong."""
    cdef int64_t half, i
    for i in range(rounds):
        half = left >> 1
        low += half & -<int64_t>(low[half].start <= destination)
        left -= half
    return low


cdef inline void _prefetch_rate(const Book* book, const Line* line, uint64_t destination) noexcept nogil:
    """Worth a second look-up only where the rates themselves do not stay in cache."""
    cdef int32_t card = book.prices[line.price].card
    if card >= 0:
        _prefetch_row(book, _range_of(book, book.cards + card, destination))


cdef inline void _prefetch_row(const Book* book, const Range* span) noexcept nogil:
    if span.rate >= 0:
        prefetch_to_read(book.rates + span.row)
        prefetch_to_read(&book.rates[span.row].grace)


cdef inline int _single_card(const Book* book, const Step* step, const Event* event, int32_t version,
                             Call* call, Out* out) noexcept nogil:
    """A tariff of one rate card remembers nothing, so an ordinary call may wait until there are many."""
    cdef const Card* card = book.cards + step.first
    if event.quantity < NARROW_CALL and not event.closing:
        prefetch_to_read(book.card_index + card.first_index + (event.destination >> card.shift))
        call.step, call.version = step, version
        call.quantity, call.destination = <uint32_t>event.quantity, event.destination
        return LATER
    return _wide_call(book, step, event, version, out)


cdef uint8_t _wide_call(const Book* book, const Step* step, const Event* event, int32_t version,
                        Out* out) noexcept nogil:
    """A call at terms beyond 30 bits, or the close of a line."""
    cdef Frame frame
    cdef uint8_t reject
    frame.quantity, frame.amount = event.quantity, 0
    frame.seen, frame.counted, frame.raw, frame.paid, frame.connected = 0, 0, 0, 0, False
    reject = _rate_card(book, step, event, &frame, out)
    if reject == OK and frame.amount > MAX_EVENT_MICRO:
        reject = OUT_OF_RANGE
    if reject != OK:
        out.rate = -1
        return reject
    out.amount, out.version = <int64_t>frame.amount, version
    return OK


cdef inline void _rate_calls(const Book* book, Call* calls, int32_t count, bint many_rates,
                             const Columns* columns) noexcept nogil:
    """Calls that waited, in three passes: each asks the memory for what the next one reads."""
    cdef int32_t i
    cdef Call* call
    cdef const Card* card
    cdef const int32_t* index
    for i in range(count):
        call = calls + i
        card = book.cards + call.step.first
        index = book.card_index + card.first_index + (call.destination >> card.shift)
        call.span, call.left = book.ranges + index[0], index[1] - index[0] + 1
        prefetch_to_read(call.span)
        prefetch_to_read(book.ranges + index[1])
    for i in range(count):
        call = calls + i
        call.span = _narrowed(call.span, call.left, book.cards[call.step.first].rounds, call.destination)
        if many_rates:
            _prefetch_row(book, call.span)
    for i in range(count):
        _rate_call(book, calls + i, columns)


cdef inline void _rate_call(const Book* book, const Call* call, const Columns* columns) noexcept nogil:
    cdef Py_ssize_t row = call.row
    cdef const Range* span = call.span
    cdef Event event
    cdef Out out
    columns.tier[row] = -1
    if span.rate < 0:
        columns.amount[row], columns.version[row], columns.rate[row], columns.reject[row] = 0, -1, -1, NO_RATE
        return
    if book.rates[span.row].narrow:
        columns.amount[row] = _narrow_call(book.rates + span.row, call.quantity)
        columns.version[row], columns.rate[row], columns.reject[row] = call.version, span.rate, OK
        return
    out.amount, out.version, out.tier, out.rate = 0, -1, -1, -1
    event.quantity, event.destination, event.closing = call.quantity, call.destination, False
    columns.reject[row] = _wide_call(book, call.step, &event, call.version, &out)
    columns.amount[row], columns.version[row], columns.rate[row] = out.amount, out.version, out.rate


cdef inline int64_t _narrow_call(const Rate* rate, uint32_t quantity) noexcept nogil:
    """A call in one part where terms fit 30 bits: products stay below 2^62, and hardly a branch is a guess."""
    cdef uint32_t first = <uint32_t>rate.first, next = <uint32_t>rate.next
    cdef uint32_t beyond = quantity - first if quantity > first else 0
    cdef uint64_t counted = first + (beyond + next - 1) // next * next
    cdef int64_t owed
    if quantity <= rate.grace:
        return 0
    owed = <int64_t>((<uint64_t>rate.price * counted + (<uint64_t>rate.per >> 1)) // <uint64_t>rate.per) + rate.fee
    return owed if owed > rate.minimum else rate.minimum


cdef inline uint8_t _rate_card(const Book* book, const Step* step, const Event* event, Frame* frame,
                               Out* out) noexcept nogil:
    cdef const Range* span
    cdef const Rate* rate
    cdef int128 owed
    if event.closing:
        return OK
    span = _range_of(book, book.cards + step.first, event.destination)
    if span.rate < 0:
        return NO_RATE
    out.rate = span.rate
    rate = book.rates + span.row
    _increments(rate.first, rate.next, rate.grace, event.quantity, frame)
    if frame.quantity == 0:
        return OK
    frame.raw += _priced(rate, frame.quantity)
    if not frame.connected:
        frame.raw += rate.fee
    frame.connected = True
    owed = frame.raw
    if owed < rate.minimum:
        owed = rate.minimum
    if owed < frame.paid:
        owed = frame.paid
    frame.amount += owed - frame.paid
    frame.paid = owed
    return OK


cdef inline int128 _priced(const Rate* rate, int64_t quantity) noexcept nogil:
    """price * quantity / per, half up; in 64 bits where both factors are below 2^30."""
    cdef int128 wide
    if rate.price < 1_073_741_824 and quantity < 1_073_741_824:
        return <uint64_t>(rate.price * quantity + rate.per // 2) // <uint64_t>rate.per
    wide = rate.price
    return (wide * quantity + rate.per // 2) // rate.per


cdef inline void _increments(int64_t first, int64_t next, int64_t grace, int64_t event_quantity,
                             Frame* frame) noexcept nogil:
    """An increment belongs to the part in which it begins; time already counted is not counted again."""
    cdef int64_t counted = 0
    frame.seen += frame.quantity
    if event_quantity > grace and frame.seen > 0:
        counted = first
        if frame.seen > first:
            if next == 1:
                counted = frame.seen
            else:
                counted += <int64_t>(<uint64_t>(frame.seen - first + next - 1) // <uint64_t>next) * next
    frame.quantity = counted - frame.counted if counted > frame.counted else 0
    frame.counted += frame.quantity


# ---- the other steps


cdef inline void _flat(const Step* step, bint closing, int64_t* meters, Frame* frame) noexcept nogil:
    if meters[step.slot] == 0 and not (closing and step.by_event):
        meters[step.slot] = 1
        frame.amount += step.a


cdef inline void _percentage(const Step* step, bint closing, int64_t* meters, Frame* frame) noexcept nogil:
    """meters: events of the period, and 1 + what came of this event so far (0: nothing yet)."""
    cdef int64_t before
    if closing:
        return
    before = meters[step.slot2]
    if before == 0:
        meters[step.slot] += 1
    meters[step.slot2] = (before if before else 1) + frame.quantity
    if meters[step.slot] <= step.per:
        return
    frame.amount += _percentage_total(step, meters[step.slot2] - 1)
    if before:
        frame.amount -= _percentage_total(step, before - 1)


cdef inline int128 _percentage_total(const Step* step, int64_t base) noexcept nogil:
    cdef int128 amount = base
    amount = amount * step.a + step.b
    if amount < step.c:
        amount = step.c
    if step.d >= 0 and amount > step.d:
        amount = step.d
    return amount


cdef inline void _allowance(const Step* step, int64_t* meters, Frame* frame) noexcept nogil:
    cdef int64_t drawn = step.a - meters[step.slot]
    if drawn < 0:
        drawn = 0
    if drawn > frame.quantity:
        drawn = frame.quantity
    meters[step.slot] += drawn
    frame.quantity -= drawn


cdef inline void _pool(const Step* step, int64_t* pools, Frame* frame) noexcept nogil:
    cdef int64_t drawn = pools[step.first]
    if drawn > frame.quantity:
        drawn = frame.quantity
    pools[step.first] -= drawn
    frame.quantity -= drawn


cdef inline void _multiply(const Step* step, Frame* frame) noexcept nogil:
    if frame.amount < 0:
        frame.amount = -((-frame.amount * step.a + MICRO // 2) // MICRO)
    else:
        frame.amount = (frame.amount * step.a + MICRO // 2) // MICRO


cdef inline int128 _amount_at(const int64_t* meters, int32_t slot) noexcept nogil:
    """A meter of 128 bits: its low word, then its high one."""
    cdef int128 value = meters[slot + 1]
    return value * (<int128>1 << 64) + <uint64_t>meters[slot]


cdef inline void _put_amount(int64_t* meters, int32_t slot, int128 value) noexcept nogil:
    meters[slot] = <int64_t>value
    meters[slot + 1] = <int64_t>(value >> 64)


cdef inline uint8_t _cap(const Step* step, int64_t* meters, Frame* frame) noexcept nogil:
    cdef int128 most = <int128>1_000_000_000_000_000 * MICRO
    cdef int128 before = _amount_at(meters, step.slot), after = before + frame.amount
    if after > most or after < -most:
        return OUT_OF_RANGE
    _put_amount(meters, step.slot, after)
    frame.amount = (after if after < step.a else <int128>step.a) - (before if before < step.a else <int128>step.a)
    return OK


cdef inline uint8_t _commitment(const Step* step, bint closing, int64_t* meters, Frame* frame) noexcept nogil:
    cdef int128 most = <int128>1_000_000_000_000_000 * MICRO
    cdef int128 after = _amount_at(meters, step.slot) + frame.amount
    if after > most or after < -most:
        return OUT_OF_RANGE
    if closing and after < step.a:
        frame.amount += step.a - after
        after = step.a
    _put_amount(meters, step.slot, after)
    return OK
