"""Suspends the people of a CSV file (column account_id), or whom a filter finds: preview, look, apply.

Needs Python and `requests`, nothing else.

export AUM_URL=https://aum.example.com AUM_ORGANIZATION=acme AUM_TOKEN=aum_…   # scopes read,preview,run
python bulk_suspend.py leavers.csv                                     # shows who
python bulk_suspend.py leavers.csv --apply                             # suspends exactly those
python bulk_suspend.py inactive_days=180 product=confluence            # the same for a filter
"""

import csv
import os
import sys
import time

import requests

BASE = f"{os.environ['AUM_URL']}/api/v1/organizations/{os.environ['AUM_ORGANIZATION']}"
http = requests.Session()
http.headers["Authorization"] = f"Bearer {os.environ['AUM_TOKEN']}"


def call(method, url, **options):
    answer = http.request(method, url if url.startswith("http") else f"{BASE}/{url}", timeout=60, **options)
    if not answer.ok:
        sys.exit(f"{answer.status_code} {answer.json()['detail']} {answer.json()['fields'] or ''}")
    return answer.json()


def follow(operation, *ends):
    while operation["status"] not in ends:
        time.sleep(1)
        operation = call("GET", f"operations/{operation['id']}/")
    return operation


FINAL = ("previewed", "succeeded", "partial_failure", "failed", "no_effect", "cancelled", "rejected", "expired", "held")
whom = {"filter": dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)}
for path in [word for word in sys.argv[1:] if word.endswith(".csv")]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        whom = {"accounts": [row["account_id"] for row in csv.DictReader(file)]}
plan = call("POST", "bulk-actions/", json={**whom, "action": "suspend", "mode": "preview"})
plan = follow(plan, *FINAL)
page = call("GET", f"operations/{plan['id']}/items/?limit=500")
while page:
    for item in page["results"]:
        print(item["account_id"], item["name"], item["email"] or "", sep="\t")
    page = call("GET", page["next"]) if page["next"] else None
print(f"{plan['people_count']} people. Left out: {plan['left_out'] or 'nobody'}", file=sys.stderr)
if "--apply" in sys.argv and plan["people_count"]:
    run = call("POST", f"operations/{plan['id']}/apply/", json={"plan_hash": plan["plan_hash"]})
    run = follow(run, *FINAL)
    print(f"Run #{run['number']}: {run['status']} {run['counts']} {run['held_reason']}", file=sys.stderr)
    sys.exit({"succeeded": 0, "no_effect": 0, "held": 3, "partial_failure": 4}.get(run["status"], 1))
