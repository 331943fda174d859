"""The only file that imports the Label Studio SDK, and only when a connection is made (it takes seconds to load).

How it differs from bare SDK calls:
1. A write is sent once. The SDK repeats a POST after a 5xx, a 409 or a dropped connection, and a 502 AFTER the
   commit then doubles the tasks. A write whose outcome is unknown is an `Uncertain`; the caller looks before it
   writes again. Reads are repeated.
2. Whatever goes wrong becomes one line that names neither token nor cookie (the SDK's errors print every header).
3. Listings ask for the few fields that are needed: 2.5 s for 5,000 tasks instead of 27.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from labeling.deadline import hold_to
from rlhf.foundation.errors import InputError

Given = TypeVar("Given")
READ = {"max_retries": 2}
EXPORT_IDS = 200  # a GET with the ids in its address; longer ones are refused
PAGE = 1000


class Uncertain(Exception):
    """A write was sent, and whether the server committed it is not known."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A task as a listing shows it; `updated_at` changes with every annotation made, changed or deleted."""

    id: int
    uid: str | None
    updated_at: str
    annotations: int


class Studio:
    """A connection to one Label Studio server as one user. Its `repr` hides the token."""

    def __init__(self, url: str, key: str, *, timeout: float = 60.0) -> None:
        """Raises InputError for an unusable address or token; the server is not asked yet. `timeout` in seconds."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                "LABEL_STUDIO_URL", got=repr(url), expected="an address like http://127.0.0.1:8080", fix="mend it"
            )
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise InputError(
                "LABEL_STUDIO_API_KEY",
                got="an empty token" if not key.strip() else "a token with blanks or letters outside ASCII",
                expected="the token from Account & Settings in Label Studio",
                fix="copy it again",
            )
        import httpx
        from label_studio_sdk import LabelStudio
        from label_studio_sdk.core.api_error import ApiError

        self.url, self.timeout = url.rstrip("/"), timeout
        self._http_error, self._timeout_error = httpx.HTTPError, httpx.TimeoutException
        self._no_connection, self._api_error = (httpx.ConnectError, httpx.ConnectTimeout), ApiError
        loopback = parts.hostname in ("127.0.0.1", "localhost")
        client = httpx.Client(timeout=timeout, follow_redirects=True, trust_env=not loopback)
        hold_to(client, timeout)
        with self._told("connecting"):
            make: Any = LabelStudio  # its generated types disagree with what its server answers
            self._sdk: Any = make(base_url=self.url, api_key=key, max_retries=0, httpx_client=client, timeout=timeout)

    def __repr__(self) -> str:
        return f"Studio({self.url!r})"

    @contextmanager
    def _told(self, doing: str, *, write: bool = False) -> Iterator[None]:
        """Turn what goes wrong into an InputError, or into Uncertain for a write that may have been committed."""
        place = f"{doing} at {self.url}"
        try:
            yield
        except self._no_connection:
            raise self._error(place, "no answer", "a running server", "start it (`rlhf label serve`)") from None
        except self._timeout_error:
            if write:
                raise Uncertain(f"no answer within {self.timeout:g} s") from None
            raise self._error(
                place, f"no answer within {self.timeout:g} s", "an answer", "try again or raise --timeout"
            ) from None
        except self._http_error as error:
            what = f"a broken connection ({type(error).__name__})"
            if write:
                raise Uncertain(what) from None
            raise self._error(place, what, "an answer", "try again; what stands there is kept") from None
        except self._api_error as error:
            status = getattr(error, "status_code", None) or 0
            if write and (status >= 500 or status in (0, 408, 429)):
                raise Uncertain(f"status {status}") from None
            raise self._refused(place, status, getattr(error, "body", None)) from None
        except InputError:
            raise
        # An HTML page where JSON was due, or JSON of another shape, which the SDK hands on as it is.
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            what = f"an answer that is not Label Studio's JSON ({type(error).__name__})"
            if write:
                raise Uncertain(what) from None
            raise self._error(place, what, "Label Studio's JSON", "check the address and the project") from None

    def _error(self, place: str, got: str, expected: str, fix: str) -> InputError:
        return InputError(place, got=got, expected=expected, fix=fix)

    def _refused(self, place: str, status: int, body: object) -> InputError:
        if status == 401:
            return self._error(
                place, "status 401, an unknown or expired token", "a valid token", "copy it from Account & Settings"
            )
        if status == 404:
            return self._error(
                place, "status 404", "a project or task that exists", "it may have been deleted: push to a new one"
            )
        return self._error(
            place, f"status {status}{_detail(body)}", "an accepted request", "mend the request or look at the server"
        )

    def whoami(self) -> str:
        """The e-mail address of the token's owner: proves address, token and server in one call."""
        with self._told("asking who I am"):
            return _given(self._sdk.users.whoami(request_options=READ).email, str)

    def users(self) -> dict[int, str]:
        """E-mail addresses by user id."""
        with self._told("listing users"):
            return {int(user.id): str(user.email) for user in self._sdk.users.list(request_options=READ)}

    def find_projects(self, title: str) -> list[int]:
        """Ids of the projects of exactly this title."""
        with self._told("listing projects"):
            found = self._sdk.projects.list(title=title, request_options=READ)
            return sorted(int(project.id) for project in found if project.title == title)

    def create_project(self, title: str, config: str, *, instruction: str, by_priority: bool) -> int:
        """Make a project and return its id. Predictions stay hidden from people."""
        with self._told(f"making project '{title}'"):
            project = self._sdk.projects.create(
                title=title,
                label_config=config,
                expert_instruction=instruction,
                show_instruction=False,
                show_collab_predictions=False,
                sampling="Uncertainty sampling" if by_priority else "Sequential sampling",
            )
            return int(project.id)

    def project(self, project: int) -> tuple[str, str]:
        """Title and label configuration of a project as they are now."""
        with self._told(f"reading project {project}"):
            found = self._sdk.projects.get(project, request_options=READ)
            return _given(found.title, str), _given(found.label_config, str)

    def scores_version(self, project: int) -> str:
        """The version of the scores that a project's queue follows, "" when none was set."""
        with self._told(f"reading project {project}"):
            return str(self._sdk.projects.get(project, request_options=READ).model_version or "")

    def order_by_priority(self, project: int, version: str) -> None:
        """Serve tasks by the scores of `version`, lowest first; predictions stay hidden from people."""
        with self._told(f"ordering project {project}"):
            self._sdk.projects.update(
                project, sampling="Uncertainty sampling", model_version=version, show_collab_predictions=False
            )

    def delete_project(self, project: int) -> None:
        """Delete a project and everything in it."""
        with self._told(f"deleting project {project}"):
            self._sdk.projects.delete(project)

    def import_tasks(self, project: int, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import `{"data": ..., "predictions": [...]}` rows once; their ids. Raises Uncertain."""
        with self._told(f"importing into project {project}", write=True):
            answer = self._sdk.projects.import_tasks(project, request=list(rows), return_task_ids=True)
            return [int(id) for id in answer.task_ids or []]

    def import_scores(self, project: int, scores: Mapping[int, float], version: str) -> None:
        """Give tasks (by id) a score of 0..1 under `version`; a repeated call does no harm. Raises Uncertain."""
        rows = [{"task": id, "result": [], "score": s, "model_version": version} for id, s in scores.items()]
        with self._told(f"scoring tasks of project {project}", write=True):
            self._sdk.projects.import_predictions(project, request=rows)

    def list_tasks(self, project: int, *, after: int = 0) -> list[Listed]:
        """Tasks with an id greater than `after`, by ascending id."""
        newer = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}
        query = {"filters": {"conjunction": "and", "items": [newer] if after else []}, "ordering": ["tasks:id"]}
        with self._told(f"listing tasks of project {project}"):
            pages = self._sdk.tasks.list(
                project=project,
                page_size=PAGE,
                fields="task_only",
                include="id,data,updated_at,total_annotations",
                query=json.dumps(query),
                request_options=READ,
            )
            _given(pages.items, list)  # an answer without them is no empty project
            return [_listed(task) for task in pages]

    def is_untouched(self, task: int) -> bool:
        """Whether a task has neither annotation nor draft at this moment."""
        with self._told(f"reading task {task}"):
            found = self._sdk.tasks.get(task, request_options=READ)
            return not _given(found.annotations, list) and not found.drafts

    def delete_task(self, task: int) -> None:
        """Delete a task."""
        with self._told(f"deleting task {task}"):
            self._sdk.tasks.delete(task)

    def export(
        self, project: int, ids: Sequence[int] | None = None, *, unannotated: bool = False
    ) -> list[dict[str, Any]]:
        """Full JSON items of the annotated tasks: all of them, or those of `ids` that have annotations.

        With `unannotated` every task: only so do drafts on tasks without an annotation show.
        """
        exports = self._sdk.projects.exports
        chunks = [None] if ids is None else [ids[i : i + EXPORT_IDS] for i in range(0, len(ids), EXPORT_IDS)]
        items: list[dict[str, Any]] = []
        for chunk in chunks:
            chosen: dict[str, Any] = {} if chunk is None else {"ids": list(chunk)}
            with self._told(f"exporting project {project}"):
                # A download that breaks half-way is repeated whole: half an export is never parsed.
                raw = b"".join(
                    exports.download_sync(
                        project, export_type="JSON", download_all_tasks=unannotated, request_options=READ, **chosen
                    )
                )
                items += [{**item, "id": int(item["id"])} for item in _given(json.loads(raw), list)]
        return items

    def annotate(self, task: int, result: Sequence[Mapping[str, Any]], **fields: Any) -> int | None:
        """Make an annotation as this user; its id, or None when its `unique_id` (a UUID) is there already.

        Raises Uncertain; a repeat with the same `unique_id` then does no harm.
        """
        with self._told(f"annotating task {task}", write=True):
            try:
                return int(self._sdk.annotations.create(task, result=list(result), **fields).id)
            except self._api_error as error:
                if getattr(error, "status_code", None) == 409 and "unique_id" in fields:
                    return None
                raise

    def annotations_api(self) -> Any:
        """The SDK's own annotation calls (update, delete), for tests and simulated annotators."""
        return self._sdk.annotations


def _given(value: Any, kind: type[Given]) -> Given:
    """The value, which must be of that type; the SDK gives None for what the server left out."""
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} was due")
    return value


def _listed(task: Any) -> Listed:
    uid = (task.data or {}).get("uid")
    return Listed(
        id=int(task.id),
        uid=uid if isinstance(uid, str) else None,
        updated_at=str(task.updated_at),
        annotations=int(task.total_annotations or 0),
    )


def _detail(body: object) -> str:
    """The server's own words if it sent JSON with a `detail`; a page of HTML is never passed on."""
    if not isinstance(body, Mapping):
        return ""
    said = body.get("validation_errors") or body.get("detail") or ""
    return f", {json.dumps(said, ensure_ascii=False)[:160]}" if said else ""
