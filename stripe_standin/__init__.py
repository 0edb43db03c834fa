"""A stand-in for Stripe's API: its own process, on loopback only, for tests and the demo.

It speaks HTTP as Stripe does, so stripe-python, webhook signatures and dj-stripe are the real ones. State is in memory, with a
file if wanted. What it answers is held against Stripe's own OpenAPI document by the tests.

It can't prove, and nobody should believe because of it:

- the days on which Stripe retries a failed payment (here `settings.retry_days` after the first failure; there "smart retries");
- the rounding of tiers: here each line is rounded half up to the currency's smallest unit, as the documentation describes, and
  a tier's flat fee is a line of its own;
- the wording of invoice lines and of errors, beyond the codes that the documentation names;
- 3D Secure as banks do it: two cards here ask for each payment, all others pay or are refused at once; set-ups never ask;
- tax: only tax rates given by hand are computed, Stripe Tax never;
- how long meter events take to be counted, and which of their faults are found at once (here: time stamps, duplicates, unknown
  names, values) and which later by an error report (here: customers, inactive meters);
- the order and the timing of events; payouts, fees and fraud; disputes beyond being opened and given up;
- Checkout's promotion codes and looks; which card the real portal makes the default of which subscription;
- `payment_behavior=pending_if_incomplete`, which is refused;
- subscription schedules beyond phases that begin at the end of a period; quotes, Connect, more than one currency an invoice.
"""
