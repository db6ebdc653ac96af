"""What the pages of the price book send. The service judges the values; these forms keep what was typed."""

from __future__ import annotations

from typing import Any

from django import forms

from apps.pricing.models import ProductPrice
from apps.pricing.services import PriceInput
from apps.users.models import Product

TIER_ROWS = 6
_PLAIN = {"autocomplete": "off"}
_AMOUNT = {"autocomplete": "off", "inputmode": "decimal", "class": "num"}


def _day(label: str, hint: str) -> forms.CharField:
    widget = forms.DateInput(attrs={"type": "date"})
    return forms.CharField(label=label, required=False, help_text=hint, widget=widget, max_length=20)


class TermsForm(forms.Form):
    """What the prices of several products share."""

    hide_required = True

    currency = forms.CharField(
        label="Currency",
        required=False,
        max_length=10,
        help_text="Three letters, such as USD.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    billing = forms.ChoiceField(label="Billing", choices=ProductPrice.Billing.choices, required=False)
    valid_from = _day("Valid from", "Months before this day keep the price that was entered for them.")
    renewal_on = _day("Renewal date", "Only for annual billing: freed licences count from this day on, each year.")


class FourForm(TermsForm):
    """The first prices: one for each of the four products, empty where the product is not paid for."""

    price_jira = forms.CharField(required=False, max_length=20, widget=forms.TextInput(attrs=_AMOUNT))
    price_confluence = forms.CharField(required=False, max_length=20, widget=forms.TextInput(attrs=_AMOUNT))
    price_jsm = forms.CharField(required=False, max_length=20, widget=forms.TextInput(attrs=_AMOUNT))
    price_bitbucket = forms.CharField(required=False, max_length=20, widget=forms.TextInput(attrs=_AMOUNT))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for product in Product:
            self.fields[f"price_{product.value}"].label = str(product.label)

    def inputs(self) -> dict[str, PriceInput]:
        """The filled prices by their field; billing of an annual contract is per user and year."""
        data = self.cleaned_data
        shared = {name: data[name] for name in ("currency", "billing", "valid_from", "renewal_on")}
        return {
            f"price_{product}": PriceInput(product=product, unit_price=data[f"price_{product}"], **shared)
            for product in Product.values
            if data[f"price_{product}"].strip()
        }


class PriceForm(TermsForm):
    """One row of the price book, with up to six tiers."""

    product = forms.CharField(
        label="Product",
        required=False,
        max_length=60,
        help_text="jira, confluence, jsm, bitbucket, or the key of another product.",
        widget=forms.TextInput(attrs={**_PLAIN, "list": "products"}),
    )
    tier = forms.CharField(
        label="Plan",
        required=False,
        max_length=100,
        help_text="Its name, such as Standard or Premium. Shown beside the price.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    tier_mode = forms.ChoiceField(label="Price depends on the number of users", choices=ProductPrice.TierMode.choices)
    unit_price = forms.CharField(
        label="Price per user",
        required=False,
        max_length=20,
        help_text="A month; with annual billing a year. Not used with tiers.",
        widget=forms.TextInput(attrs=_AMOUNT),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for row in range(1, TIER_ROWS + 1):
            for name, label in (("from", f"Tier {row} from user"), ("price", f"Tier {row} price per user")):
                self.fields[f"tier_{name}_{row}"] = forms.CharField(
                    label=label, required=False, max_length=20, widget=forms.TextInput(attrs=_AMOUNT)
                )
        # Errors of the tiers stand at the first of them.
        self.fields["tiers"] = forms.CharField(required=False, widget=forms.HiddenInput)

    def tier_rows(self) -> list[tuple[forms.BoundField, forms.BoundField]]:
        """The pairs of fields (from, price)."""
        return [(self[f"tier_from_{row}"], self[f"tier_price_{row}"]) for row in range(1, TIER_ROWS + 1)]

    def values(self) -> PriceInput:
        """What was typed; a tier row with both fields empty is left out."""
        data = self.cleaned_data
        pairs = [
            (data[f"tier_from_{row}"].strip(), data[f"tier_price_{row}"].strip()) for row in range(1, TIER_ROWS + 1)
        ]
        names = ("product", "tier", "currency", "billing", "tier_mode", "unit_price", "valid_from", "renewal_on")
        return PriceInput(**{name: data[name] for name in names}, tiers=[pair for pair in pairs if any(pair)])


def initial_of(values: PriceInput) -> dict[str, Any]:
    """Stored values as the form shows them."""
    initial: dict[str, Any] = {
        name: getattr(values, name) for name in ("product", "tier", "currency", "billing", "tier_mode")
    }
    initial["unit_price"] = "" if values.unit_price is None else f"{values.unit_price.normalize():f}"
    initial["valid_from"] = str(values.valid_from or "")
    initial["renewal_on"] = str(values.renewal_on or "")
    for row, (start, price) in enumerate(values.tiers[:TIER_ROWS], start=1):
        initial |= {f"tier_from_{row}": start, f"tier_price_{row}": f"{price.normalize():f}"}
    return initial
