"""``ptec drift`` for spark-submit: the drift of the last runs."""

from jobs.cli import main

if __name__ == "__main__":
    main("drift")
