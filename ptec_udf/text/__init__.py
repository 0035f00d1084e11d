"""Company texts: the template that makes them, its Spark columns, and the cut of long ones."""
