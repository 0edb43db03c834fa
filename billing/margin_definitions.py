"""What each figure of the margin report means: shown on the page, where the figure is."""

from billing.revenue_definitions import Definition

DEFINITIONS = (
    Definition(
        "month", "Month",
        "A closed month is the billing periods that ended in it (UTC); “Running now” is the periods that are open at this moment, so far.",
        "Farebox",
        "Calls stand beside the very charges that they were rated at; calendar days would tear the two apart.",
    ),
    Definition(
        "revenue", "Revenue",
        "The lines of final documents for these periods: fees, usage, minimums, late adjustments, less write-offs and credit notes. "
        "A period without its statement counts with its cost so far.",
        "Farebox, as on the page Revenue",
        "Void documents do not count; an adjustment counts in the month whose calls it bills.",
    ),
    Definition(
        "cost", "Cost",
        "Calls of each route × the cost of a call: compute ms × price + GB-seconds of memory × price + kB out × price + third-party calls × price.",
        "Route costs and cost prices in the admin",
        "All calls that were served: charged, not charged, and test calls. Where a route's cost leaves time or bytes open, "
        "the average of its newest calls in the ledger stands in.",
    ),
    Definition(
        "not_charged", "Not charged",
        "Errors and other calls that nobody pays for, and calls in test mode; their cost is part of the cost.",
        "Ledger",
        "Calls that were refused at the door (402, 403, 429) were never served and cost nothing.",
    ),
    Definition(
        "margin", "Margin", "Revenue − cost; as a part of revenue: (revenue − cost) ÷ revenue.", "Gross margin, by serving costs alone",
        "Salaries, support and everything else that is no cost of a call are not in it.",
    ),
    Definition(
        "route_revenue", "Revenue of a route",
        "Its share of what a meter's prices came to, by the quantity that its calls counted (the average price), and of fees and all else "
        "by charged calls.",
        "Farebox",
        "Usage that was reported, and fees where nobody called, stand in a row of their own.",
    ),
)  # fmt: skip
