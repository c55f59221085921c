"""Whether the MLflow server answers as its users ask it: by its service's name, and with an account.

/health stays green where every real request is refused, since it looks neither at the Host header nor at the database.
"""

import base64
import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("SLIMLINE_HEALTH_URL", "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1")


def main() -> None:
    account = f"{os.environ.get('MLFLOW_AUTH_ADMIN_USERNAME', 'admin')}:{os.environ['MLFLOW_AUTH_ADMIN_PASSWORD']}"
    request = urllib.request.Request(URL, headers={"Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"{URL} answers {error.code}: {error.read(200).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{URL} does not answer: {error}")


if __name__ == "__main__":
    main()
