"""What each figure of the revenue report means: its formula, and whose definition it is. Shown where the figure is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """`formula` in words; `source` names who defines it so; `remark` says where others differ."""

    slug: str
    label: str
    formula: str
    source: str
    remark: str = ""


DEFINITIONS = (
    Definition(
        "mrr", "MRR",
        "The monthly fees of all subscriptions that are active or past due at the end of the month; a yearly fee counts a twelfth.",
        "ChartMogul and Baremetrics, “Monthly recurring revenue”",
        "Trials, suspended customers and usage do not count.",
    ),
    Definition(
        "arr", "ARR", "MRR at the end of the month × 12.", "ChartMogul, “Annual run rate”",
        "What a year would bring if nothing changed; not what was charged in a year.",
    ),
    Definition(
        "arpu", "ARPU", "MRR at the end of the month ÷ paying customers at the end of the month.",
        "Baremetrics, “Average revenue per user”; ChartMogul calls it ARPA",
    ),
    Definition(
        "logo_churn", "Logo churn",
        "Customers whose MRR fell to nothing in the month ÷ paying customers at its start.",
        "ChartMogul, “Customer churn rate”; Baremetrics, “User churn”",
        "Customers who came and left within the month are in the first number only.",
    ),
    Definition(
        "revenue_churn", "Revenue churn", "(Churn + contraction) of the month ÷ MRR at its start.",
        "ChartMogul, “Gross MRR churn rate”; Baremetrics, “Revenue churn”",
    ),
    Definition(
        "net_revenue_churn", "Net revenue churn",
        "(Churn + contraction − expansion − reactivation) of the month ÷ MRR at its start.",
        "ChartMogul, “Net MRR churn rate”", "Below zero, customers who stayed or returned brought more than was lost.",
    ),
    Definition(
        "ltv", "LTV", "ARPU ÷ logo churn of the month.", "ChartMogul and Baremetrics, “Customer lifetime value”",
        "Fees only, and only as steady as one month's churn; there is none in a month in which nobody left.",
    ),
    Definition(
        "trial_conversion", "Trial conversion",
        "Trials that began to pay in the month ÷ trials that came to an end in it, either way.",
        "Cleeng, “Trial conversion rate”",
        "Baremetrics divides by the trials that began in the last 30 days instead, which falls when sign-ups rise.",
    ),
)  # fmt: skip

MOVEMENTS = (
    Definition("new", "New", "The first MRR that a customer ever had.", "ChartMogul, “New business MRR”"),
    Definition("expansion", "Expansion", "What MRR of paying customers rose by.", "ChartMogul, “Expansion MRR”"),
    Definition(
        "reactivation", "Reactivation", "MRR of customers who had some before, and none just now.",
        "ChartMogul, “Reactivation MRR”",
    ),
    Definition(
        "contraction", "Contraction", "What MRR of customers who stayed fell by.", "ChartMogul, “Contraction MRR”"
    ),
    Definition("churn", "Churn", "MRR of customers whose MRR fell to nothing.", "ChartMogul, “Churned MRR”"),
)  # fmt: skip
