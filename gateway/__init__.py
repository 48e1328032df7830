"""The life of a payment: partner endpoints, the state machine, batches, contracts, attempts and the journal.

Rules. A payment is load, decide, commit; what decides does not await and what awaits does not decide. PostgreSQL alone
decides; the journal is written afterwards and read by people only.
"""
