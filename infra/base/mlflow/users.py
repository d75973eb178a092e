"""Makes an MLflow user per folder below /users (files `username` and `password`: a mounted secret); one that exists stays as it is."""

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_S = 20


def ask(path: str, body: dict[str, str] | None = None) -> int:
    """The HTTP status of a call as administrator."""
    key = f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(key).decode()}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(os.environ["MLFLOW_TRACKING_URI"] + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def main(folder: Path) -> int:
    """Returns 0 when all users stand; else the job tries again, for instance because MLflow is not up yet."""
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        user = {name: (place / name).read_text(encoding="utf-8").strip() for name in ("username", "password")}
        if ask(f"/api/2.0/mlflow/users/get?username={user['username']}") == 200:
            continue
        if (status := ask("/api/2.0/mlflow/users/create", user)) != 200:
            sys.stderr.write(f"user '{user['username']}': MLflow answers {status}; is it up, and is admin_password right?\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/users")))
