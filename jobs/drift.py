"""``ptec drift`` for spark-submit: the drift of the last runs."""

from ptec_jobs.cli import main

if __name__ == "__main__":
    main("drift")
