"""The bucket's own rule as a backstop: parts of uploads nobody completes go after two days. Used by the S3 object store.

Nothing else is left to the bucket: it cannot see a pin.
"""

import minio
import structlog
import urllib3
from minio.commonconfig import ENABLED, Filter
from minio.error import MinioException
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule

log = structlog.get_logger()

RULE = "tunesmith-abandoned-parts"
_DAYS = 2


def abort_abandoned_uploads(client: minio.Minio, bucket: str) -> None:
    """Adds the rule beside those the operator has made; a server that refuses is warned about and used all the same."""
    try:
        config = client.get_bucket_lifecycle(bucket)
        rules = list(config.rules) if config else []
        if any(rule.rule_id == RULE for rule in rules):
            return
        rules.append(_rule())
        client.set_bucket_lifecycle(bucket, LifecycleConfig(rules))
    except (MinioException, urllib3.exceptions.HTTPError, ValueError) as error:
        log.warning("bucket.lifecycle_refused", bucket=bucket, error=str(error)[:300])


def _rule() -> Rule:
    abort = AbortIncompleteMultipartUpload(days_after_initiation=_DAYS)
    return Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id=RULE, abort_incomplete_multipart_upload=abort)
