"""Which part of the task manager is made of which others; used by `__main__`."""

import asyncio
import dataclasses
import datetime
import uuid
from collections.abc import Awaitable, Callable

import grpc

from services.common.postgres import Pool
from services.task_manager.archive_grpc import GrpcArchive
from services.task_manager.checkpoints import Checkpoints
from services.task_manager.claims import ClaimRepository
from services.task_manager.compaction import Compaction
from services.task_manager.creation import Patience, TaskCreation
from services.task_manager.dispatcher import Dispatcher
from services.task_manager.eval_repository import EvalRepository
from services.task_manager.evals import Evals
from services.task_manager.event_log import EventLog
from services.task_manager.fleet import Fleet
from services.task_manager.history import History
from services.task_manager.hub import Hub
from services.task_manager.inquiry import Inquiry
from services.task_manager.kept_checkpoints import KeptCheckpoints
from services.task_manager.kinds.evaluation import evaluation
from services.task_manager.kinds.export import exports
from services.task_manager.kinds.fine_tuning import Peers, fine_tuning
from services.task_manager.kinds.generation import generation
from services.task_manager.kinds.table import Kinds
from services.task_manager.origins import Origins
from services.task_manager.outlook import Outlook
from services.task_manager.planning import Planning
from services.task_manager.project_quota import ProjectQuota
from services.task_manager.project_retention import ProjectRetention, parse_retentions
from services.task_manager.repository import TaskRepository
from services.task_manager.results import Results
from services.task_manager.retry_repository import RetryRepository
from services.task_manager.retrying import Retrying
from services.task_manager.roster import Roster
from services.task_manager.run_speeds import RunSpeeds
from services.task_manager.runners import Runners, TasksOfRunners
from services.task_manager.served_models import ServedModels
from services.task_manager.servicer import TaskManagerServicer, utc_now
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.storage_grpc import GrpcStorage
from services.task_manager.task_comparison import TaskComparison
from services.task_manager.task_listing import TaskListing
from services.task_manager.task_pages import TaskPages
from services.task_manager.task_queue import TaskQueue
from services.task_manager.task_watch import TaskWatch
from services.task_manager.totals import TaskTotals
from services.task_manager.trainer_grpc import GrpcTrainers
from services.task_manager.tunings import Tunings
from services.task_manager.watch import Watch

Loop = tuple[str, Callable[[], Awaitable[None]], datetime.timedelta]
"""Name, one round of it, and the time between two rounds."""


@dataclasses.dataclass
class Wiring:
    """One task manager; what several parts need is made once."""

    settings: TaskManagerSettings
    pool: Pool
    storage: grpc.aio.Channel
    trainers: GrpcTrainers
    stopping: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Set when streams have to end."""

    def __post_init__(self) -> None:
        settings, key = self.settings, self.settings.peer_api_key
        # An id that nobody had before: a claim of an earlier process is never taken for one of this.
        self._owner = uuid.uuid4()
        self._hub, self._fleet = Hub(), Fleet()
        self._roster = Roster(self.trainers.at, settings.trainer_addresses, utc_now, by_memory=settings.place_by_memory)
        self._stored, self._archive = GrpcStorage(self.storage, api_key=key), GrpcArchive(self.storage, api_key=key)
        quota = ProjectQuota(settings.project_max_queued, settings.project_max_processes)
        self._repository = TaskRepository(self.pool, self._hub, quota)
        self._events = EventLog(self.pool, self._hub, self._archive)
        most = settings.project_max_processes
        self._queue = TaskQueue(self.pool, self._hub, owner=self._owner, lease=settings.lease, quota=most)
        self._origins = Origins(self._stored, self._repository)
        self._kept = KeptCheckpoints(self._stored, self._repository)

    def servicer(self) -> TaskManagerServicer:
        """What answers calls."""
        settings = self.settings
        kinds, listing = self._kinds(), TaskListing(self.pool)
        outlook = Outlook(self._queue, self._fleet, utc_now, settings.project_max_processes)
        return TaskManagerServicer(
            self._repository,
            TaskCreation(
                repository=self._repository,
                kinds=kinds,
                origins=self._origins,
                roster=self._roster,
                patience=Patience(settings.create_token_wait.total_seconds(), settings.plan_token_wait.total_seconds()),
                retention=ProjectRetention(parse_retentions(settings.project_retentions)),
            ),
            pages=TaskPages(listing, outlook),
            history=History(self._events),
            watch=self._watch(),
            task_watch=self._task_watch(listing),
            retrying=self._retrying(kinds),
            checkpoints=Checkpoints(self._repository, self._stored, self.trainers.at),
            outlook=outlook,
            comparison=TaskComparison(self._stored),
            results=Results(self.pool),
            runners=Runners(self._roster, TasksOfRunners(self.pool)),
            evals=Evals(EvalRepository(self.pool)),
            tunings=Tunings(self._stored, self._roster.labels),
        )

    def dispatcher(self) -> Dispatcher:
        """What brings tasks to trainers."""
        return Dispatcher(
            queue=self._queue,
            claims=ClaimRepository(self.pool, self._hub, owner=self._owner, lease=self.settings.lease),
            events=self._events,
            totals=TaskTotals(self.pool),
            trainer_at=self.trainers.at,
            roster=self._roster,
            fleet=self._fleet,
            hub=self._hub,
            settings=self.settings,
            checkpoints_before=self._kept.before_result,
        )

    def compaction(self) -> Loop:
        """What brings the events of tasks that have ended to storage."""
        compaction = Compaction(self.pool, self._archive, rest=self.settings.compaction_delay)
        return "compaction", compaction.round, self.settings.compaction_interval

    def _kinds(self) -> Kinds:
        inquiry, served = Inquiry(self._stored), ServedModels(self._stored, self._repository)
        planning = Planning(inquiry, self._stored, RunSpeeds(self.pool), self._roster.flops_per_second)
        tuning = fine_tuning(Peers(inquiry, planning, self._origins, served, self._roster.labels))
        return Kinds([tuning, evaluation(served, self._kept), generation(served), exports(self._stored, self._origins)])

    def _retrying(self, kinds: Kinds) -> Retrying:
        return Retrying(
            repository=self._repository,
            retries=RetryRepository(self.pool, self._hub),
            kinds=kinds,
            origins=self._origins,
            storage=self._stored,
            patience=self.settings.create_token_wait.total_seconds(),
        )

    def _watch(self) -> Watch:
        return Watch(
            self._events,
            self._hub,
            self.stopping,
            heartbeat_interval=self.settings.heartbeat_interval.total_seconds(),
            poll_interval=self.settings.watch_interval.total_seconds(),
            now=utc_now,
        )

    def _task_watch(self, listing: TaskListing) -> TaskWatch:
        return TaskWatch(
            listing,
            self.stopping,
            heartbeat_interval=self.settings.heartbeat_interval.total_seconds(),
            poll_interval=self.settings.watch_interval.total_seconds(),
        )
