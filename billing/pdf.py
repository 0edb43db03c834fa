"""Documents as PDF: the lines of the page, in the look of the portal. Real text in reading order, with a title and language."""

from collections.abc import Sequence
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from django.conf import settings
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from billing.models import Invoice, InvoiceState, Statement
from billing.wording import DisplayLine, period_words, statement_lines, title
from core.money import format_money

# The tokens of static/css/variables.css, light.
INK, DIM, LINE, ACCENT, SOFT, BAD = (
    HexColor(code) for code in ("#17211d", "#66736d", "#e6e8e3", "#0b6b53", "#e4f1ec", "#a82a2a")
)
MARGIN = 20 * mm
_FRAME = 6  # reportlab's frames are padded by so much
WIDTH = A4[0] - 2 * MARGIN
_FONTS = Path("/usr/share/fonts/truetype/dejavu")  # where names ask for letters that Helvetica does not have


def statement_pdf(statement: Statement) -> bytes:
    """A document as a PDF file."""
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=MARGIN - _FRAME,
        rightMargin=MARGIN - _FRAME,
        topMargin=MARGIN,
        bottomMargin=24 * mm,
        title=title(statement),
        author=settings.INVOICE_ISSUER.partition("\n")[0],
        lang="en",
    )
    invoice = Invoice.objects.filter(statement=statement).first()
    parts = [
        *_head(statement, invoice),
        _lines(statement_lines(statement)),
        Spacer(1, 4 * mm),
        _totals(statement, invoice),
        *_foot(statement, invoice),
    ]
    document.build(parts, canvasmaker=_numbered(statement))
    return out.getvalue()


def _head(statement: Statement, invoice: Invoice | None) -> list[Flowable]:
    facts = [
        ("Number", statement.number),
        ("Date", f"{statement.finalised_at:%-d %B %Y}"),
        ("Period", period_words(statement.starts_at, statement.ends_at)),
    ]
    if invoice is not None and invoice.is_unpaid:
        facts.append(("Due", f"{invoice.due_at:%-d %B %Y}"))
    if statement.corrects is not None:
        facts.append(("Belongs to", statement.corrects.number))
    if statement.replaces is not None:
        facts.append(("Replaces", statement.replaces.number))
    rows = [[_text(name, "dim"), _text(value)] for name, value in facts]
    columns = [
        [_text("Billed to", "dim"), _text(statement.bill_to)],
        Table(rows, colWidths=[24 * mm, 60 * mm], style=_PLAIN),
    ]
    void = (
        f"Void since {statement.voided_at:%-d %B %Y}: {statement.void_reason}" if statement.voided_at else ""
    )
    return [
        Table(
            [[_text(settings.BRAND_NAME, "brand"), _text(settings.INVOICE_ISSUER, "issuer")]], style=_PLAIN
        ),
        Spacer(1, 10 * mm),
        _text(title(statement), "title"),
        *([_text(void, "bad")] if void else []),
        Spacer(1, 6 * mm),
        Table([columns], colWidths=[WIDTH - 84 * mm, 84 * mm], style=_PLAIN),
        Spacer(1, 8 * mm),
    ]


def _lines(lines: Sequence[DisplayLine]) -> Flowable:
    """Each line with its tiers below it; the head stands on every page."""
    rows: list[list[Any]] = [[_text("", "dim"), _text("Quantity", "dim_right"), _text("Amount", "dim_right")]]
    rules: list[tuple[Any, ...]] = [("LINEBELOW", (0, 0), (-1, 0), 0.6, LINE)]
    for line in lines:
        words = [_text(line.text, "strong"), *([_text(line.detail, "dim")] if line.detail else [])]
        rows.append([words, _text(line.quantity, "right"), _text(line.amount, "right_strong")])
        for tier in line.tiers if line.quantity else ():
            price = f"{tier.quantity} {tier.price_words}".strip()
            rows.append(
                [_text(tier.range, "tier"), _text(price, "dim_right"), _text(tier.amount, "dim_right")]
            )
        rules.append(("LINEBELOW", (0, len(rows) - 1), (-1, len(rows) - 1), 0.4, LINE))
    table = Table(rows, colWidths=[WIDTH - 92 * mm, 56 * mm, 36 * mm], repeatRows=1)
    table.setStyle(TableStyle([*_PLAIN.getCommands(), ("BOTTOMPADDING", (0, 0), (-1, -1), 3), *rules]))
    return table


def _totals(statement: Statement, invoice: Invoice | None) -> Flowable:
    currency = statement.currency
    rows = [("Total", format_money(statement.total_minor, currency))]
    if invoice is not None and invoice.prepaid_minor:
        rows.append(("Prepaid credit", format_money(-invoice.prepaid_minor, currency)))
    if invoice is not None and invoice.credited_minor:
        rows.append(("Credit notes", format_money(-invoice.credited_minor, currency)))
    if invoice is not None and invoice.is_unpaid:
        rows.append(("To pay", format_money(invoice.due_minor, currency)))
    last = len(rows) - 1
    cells = [
        [_text(name, "right_strong" if n == last else "right"), _text(value, "right_strong")]
        for n, (name, value) in enumerate(rows)
    ]
    table = Table(cells, colWidths=[WIDTH - 36 * mm, 36 * mm], style=_PLAIN)
    table.setStyle(TableStyle([*_PLAIN.getCommands(), ("BACKGROUND", (0, last), (-1, last), SOFT)]))
    return table


def _foot(statement: Statement, invoice: Invoice | None) -> list[Flowable]:
    words = [statement.note] if statement.note else []
    if invoice is not None and invoice.state == InvoiceState.PAID and invoice.paid_at:
        words.append(f"Paid on {invoice.paid_at:%-d %B %Y}. Thank you.")
    elif invoice is not None and invoice.is_unpaid and settings.INVOICE_PAY_TO:
        words.append(f"{settings.INVOICE_PAY_TO}\nReference: {statement.number}")
    elif statement.total_minor == 0:
        words.append("There is nothing to pay.")
    words.append(f"Usage recorded up to {statement.cut_at:%-d %B %Y, %H:%M:%S} UTC. All times are UTC.")
    return [part for text in words for part in (Spacer(1, 5 * mm), _text(text, "dim"))]


def _numbered(statement: Statement) -> type[Canvas]:
    """A canvas that knows how many pages there are: they are drawn when the last one is done."""

    class Numbered(Canvas):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, 1):
                self.__dict__.update(page)
                self.setFont("Helvetica", 8)
                self.setFillColor(DIM)
                self.drawString(MARGIN, 14 * mm, statement.number)
                self.drawRightString(A4[0] - MARGIN, 14 * mm, f"Page {number} of {len(self._pages)}")
                Canvas.showPage(self)
            Canvas.save(self)

    return Numbered


_PLAIN = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
)
_STYLES: dict[str, dict[str, Any]] = {
    "plain": {},
    "dim": {"textColor": DIM, "fontSize": 8.5},
    "dim_right": {"textColor": DIM, "fontSize": 8.5, "alignment": TA_RIGHT},
    "tier": {"textColor": DIM, "fontSize": 8.5, "leftIndent": 4 * mm},
    "strong": {"bold": True},
    "right": {"alignment": TA_RIGHT},
    "right_strong": {"alignment": TA_RIGHT, "bold": True},
    "brand": {"fontSize": 14, "leading": 18, "bold": True, "textColor": ACCENT},
    "issuer": {"textColor": DIM, "fontSize": 8.5, "alignment": TA_RIGHT},
    "title": {"fontSize": 20, "leading": 26, "bold": True},
    "bad": {"textColor": BAD, "bold": True},
}


def _text(words: str, style: str = "plain") -> Paragraph:
    wanted = dict(_STYLES[style])
    regular, bold = _families(is_latin=_is_latin(words))
    size = wanted.get("fontSize", 9.5)
    values = {
        "fontName": bold if wanted.pop("bold", False) else regular,
        "fontSize": size,
        "leading": size * 1.4,
    }
    made = ParagraphStyle(style, textColor=INK) if "textColor" not in wanted else ParagraphStyle(style)
    for name, value in (values | wanted).items():
        setattr(made, name, value)
    return Paragraph(escape(words).replace("\n", "<br/>"), made)


def _is_latin(words: str) -> bool:
    """Whether the standard fonts have all of these letters."""
    try:
        words.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


@cache
def _families(*, is_latin: bool) -> tuple[str, str]:
    """Names of the regular and bold fonts; beyond western letters DejaVu where it is installed, else reportlab's own."""
    if is_latin:
        return "Helvetica", "Helvetica-Bold"
    for folder, regular, bold in ((f"{_FONTS}/", "DejaVuSans", "DejaVuSans-Bold"), ("", "Vera", "VeraBd")):
        try:
            pdfmetrics.registerFont(TTFont(regular, f"{folder}{regular}.ttf"))
            pdfmetrics.registerFont(TTFont(bold, f"{folder}{bold}.ttf"))
        except TTFError:
            continue
        return regular, bold
    return "Helvetica", "Helvetica-Bold"
