"""Load, faults and figures: drives the product from outside, as aggregators do, and never trusts what it says.

Imports the adapters' client side and arithmetic only. The product is started, set up and asked by its command line,
paid over HTTP, killed by signals, and audited by plain SQL.
"""
