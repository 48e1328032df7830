"""A usage file rated under a catalogue (`kopeck rate`)."""
