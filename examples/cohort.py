"""Read a clinical table, see what it says about itself, split its patients, and take a landmark."""

from __future__ import annotations

import pandas as pd

import stylegan_surv as ss

table = pd.DataFrame(
    {
        "patient_id": ["001", "001", "002", "003", "004"],
        "photo": ["001a.jpg", "001b.jpg", "002.jpg", "003.jpg", "004.jpg"],
        "os_months": [40, 40, 12, 55, 7],
        "died": [1, 1, 0, 0, 1],
        "age": [61, 61, 70, None, 58],
        "photo_date": ["2019-01-10", "2020-06-01", "2019-03-01", "2018-05-05", "2019-09-09"],
        "origin_date": ["2019-01-10", "2019-01-10", "2019-02-01", "2018-05-05", "2019-09-09"],
    }
)
cohort = ss.read_cohort(
    table, columns={"time": "os_months", "event": "died"}, time_unit="months", time_origin="diagnosis"
)
print(cohort.patients.to_string())
print(*cohort.flags, sep="\n")
print("index photographs:", *cohort.index_photos()["photo"])
print("at 18 months:", *cohort.landmark(18).table["photo"])
print(ss.split_cohort(cohort, seed=1).to_string())

try:  # faults are told all at once
    ss.read_cohort(
        table.assign(os_months=[40, 41, -1, 55, 7]), columns={"time": "os_months", "event": "died"}
    )
except ss.InputError as error:
    print(error)
