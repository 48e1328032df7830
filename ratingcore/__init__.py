"""Money and rating arithmetic: the lowest room. Imports no I/O library and no other room.

The way through it, once for a catalogue version, then for every batch of events, then for every period:

    tariff.Catalogue  >  compile.compile_catalogue  >  rate.make_lines, rate.new_accumulators
    rate.make_events  >  rate.rate_events           >  lines.add_events
    rate.close_lines  >  lines.add_events           >  lines.round_sums  >  lines.tax_lines

``reference`` is the judge of all of it and explains any event; ``lint`` says what is odd about a catalogue; ``money``
and ``rounding`` are below everything.
"""
