"""On an object store a removed job costs few requests, and what the documentation says of its rules is what the store takes."""

import json
from datetime import UTC, datetime, timedelta

from shared.retention import round as daily
from shared.retention.config import read_retention
from shared.retention.survey import survey
from tests.acceptance.many_jobs import filled_store
from tests.conftest import REPOSITORY
from tests.object_store import STORE_BUCKET, object_store, talking_to

JOBS = 60


def test_a_removed_job_costs_at_most_three_requests():
    with filled_store(JOBS) as (bucket, requests):
        rules, now = read_retention(bucket), datetime.now(UTC) + timedelta(days=31)
        requests.clear()
        assert sum(thing.is_removed for thing in survey(bucket, rules, now)) == JOBS
        assert requests.total() <= JOBS
        requests.clear()
        daily.make_round(bucket, rules, now)
        daily.make_round(bucket, rules, now + timedelta(days=1.1))
        assert requests["ListObjectsV2"] > 0
        assert requests.total() <= 3 * JOBS
        names = {info.path.rpartition("/")[2] for info in bucket.tree("jobs", "2026")}
        assert names == {"job.json", "manifest.json", "outcome.json", "published.json"}


def test_the_lifecycle_rule_of_the_documentation_is_one_that_a_store_takes():
    text = (REPOSITORY / "docs" / "how-to" / "retention.md").read_text()
    rule = json.loads(text.partition("```json\n")[2].partition("```")[0])
    with object_store() as address, talking_to(address) as client:
        client.put_bucket_lifecycle_configuration(Bucket=STORE_BUCKET, LifecycleConfiguration=rule)
        taken = client.get_bucket_lifecycle_configuration(Bucket=STORE_BUCKET)["Rules"]
    assert [one["ID"] for one in taken] == [one["ID"] for one in rule["Rules"]]
