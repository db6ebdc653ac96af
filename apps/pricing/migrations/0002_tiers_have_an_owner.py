import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Everything of an organisation names it, so that a demo is deleted whole. The table is small."""

    dependencies = [
        ("organizations", "0002_second_factor_required"),
        ("pricing", "0001_prices"),
    ]

    operations = [
        migrations.AddField(
            model_name="pricetier",
            name="organization",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="organizations.organization",
            ),
        ),
        migrations.RunSQL(
            "UPDATE pricing_pricetier t SET organization_id = p.organization_id"
            " FROM pricing_productprice p WHERE p.id = t.price_id; SET CONSTRAINTS ALL IMMEDIATE",
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name="pricetier",
            name="organization",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="organizations.organization"
            ),
        ),
    ]
