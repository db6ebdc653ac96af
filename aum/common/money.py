"""Money: exact decimals, added up by currency and never across currencies, and how it reads on a screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

# Signs that mean one currency only; others are written by their three letters.
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "AUD": "A$", "CAD": "C$", "NZD": "NZ$"}
WITHOUT_CENTS = frozenset({"JPY", "KRW", "CLP", "ISK", "VND"})


def money_text(amount: Decimal, currency: str, *, decimals: int | None = None) -> str:
    """`$1,712.00`, `CHF 20.50`, `−$3.00`; `decimals` where a price has more than the currency's own."""
    places = decimals if decimals is not None else 0 if currency in WITHOUT_CENTS else 2
    rounded = amount.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    sign = "−" if rounded < 0 else ""
    unit = SIGNS.get(currency, f"{currency} ")
    return f"{sign}{unit}{abs(rounded):,.{places}f}"


@dataclass(frozen=True)
class Amounts:
    """Sums by currency. Adding keeps currencies apart; an empty one is no money at all, not zero."""

    by_currency: Mapping[str, Decimal] = field(default_factory=dict)

    @classmethod
    def of(cls, amount: Decimal, currency: str) -> Amounts:
        return cls({currency: amount})

    @classmethod
    def total(cls, parts: Iterable[Amounts]) -> Amounts:
        """The sum of all parts."""
        sums: dict[str, Decimal] = {}
        for part in parts:
            for currency, amount in part.by_currency.items():
                sums[currency] = sums.get(currency, Decimal(0)) + amount
        return cls(sums)

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts.total((self, other))

    def __sub__(self, other: Amounts) -> Amounts:
        return self + Amounts({currency: -amount for currency, amount in other.by_currency.items()})

    def __bool__(self) -> bool:
        """True when a price stands behind it, even where it comes to zero."""
        return bool(self.by_currency)

    def __iter__(self) -> Iterator[tuple[str, Decimal]]:
        return iter(sorted(self.by_currency.items()))

    def in_currency(self, currency: str) -> Decimal:
        """The part in `currency`; zero without one."""
        return self.by_currency.get(currency, Decimal(0))

    @property
    def is_negative(self) -> bool:
        """True when every part is below zero."""
        return bool(self.by_currency) and all(amount < 0 for amount in self.by_currency.values())

    @property
    def is_zero(self) -> bool:
        """True without money, or when each part is zero."""
        return not any(self.by_currency.values())

    def __str__(self) -> str:
        """`$1,712.00`, or `$1,712.00 and €20.00`; empty without money."""
        return " and ".join(money_text(amount, currency) for currency, amount in self)

    def to_json(self) -> list[dict[str, str]]:
        """`[{"currency", "amount"}]` with amounts as text, so that nothing rounds them."""
        return [{"currency": currency, "amount": str(amount)} for currency, amount in self]
