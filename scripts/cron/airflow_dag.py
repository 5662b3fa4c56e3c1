"""An Airflow DAG: `dmtl run` once a day. What is worth another try is tried again; what needs a person fails at once.

The day is the one that the data interval begins with. A chain takes one day at a time: `max_active_runs`,
`depends_on_past`.
"""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta

from airflow.decorators import dag, task
from airflow.exceptions import AirflowException, AirflowFailException

NEEDS_A_PERSON = (2, 65, 69, 70, 73, 78, 80)  # docs/operations.md


@dag(
    dag_id="dmtl",
    schedule="30 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=True,
    max_active_runs=1,
    default_args={"depends_on_past": True, "retries": 6, "retry_delay": timedelta(minutes=30)},
)
def daily() -> None:
    @task(execution_timeout=timedelta(hours=9))
    def run(ds: str = "") -> None:
        """Airflow fills in `ds`, YYYY-MM-DD. `timeout` ends dmtl with SIGTERM, so that it can clear up."""
        options = ["--config", "mylog.yaml", "--day", ds, "--wait", "3h", "--lock-wait", "30m"]
        code = subprocess.run(["timeout", "--kill-after=5m", "8h", "dmtl", "run", *options], cwd="/srv/rec").returncode
        if code in NEEDS_A_PERSON:
            raise AirflowFailException(f"dmtl run ended with {code}: see docs/operations.md")
        if code:
            raise AirflowException(f"dmtl run ended with {code}, to be tried again")

    run()


daily()
