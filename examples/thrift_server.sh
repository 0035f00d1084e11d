#!/usr/bin/env bash
# Serve the tables, views and functions of an embedded warehouse by JDBC, ODBC and DB-API: Spark's own Thrift server.
#
#   examples/thrift_server.sh WAREHOUSE [PORT]     WAREHOUSE: warehouse.folder of the configuration; PORT: 10000
#
# It answers on this machine alone, and whoever can reach the port may read and write: see docs/integrations.md. It holds the
# warehouse open, so stop it (Ctrl-C) for the night. PTEC_CONF names the folder of spark-defaults.conf.
set -euo pipefail
if [ $# -lt 1 ] || [ ! -d "$1" ]; then
  echo "usage: $0 WAREHOUSE [PORT], where WAREHOUSE is the folder of a warehouse; was: ${1-nothing}" >&2
  exit 2
fi
warehouse=$(cd "$1" && pwd)
port=${2:-10000}
export SPARK_CONF_DIR=${PTEC_CONF:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../conf" && pwd)}
export SPARK_LOCAL_IP=127.0.0.1

# On the driver's class path: with --jars, sessions of clients do not find Delta's catalog. The warehouse remembers where
# its jars lie; those that Spark brings itself are left out.
if [ -z "${PTEC_JARS:-}" ] && [ ! -e "$warehouse/jars.json" ]; then
  echo "$warehouse has no jars.json, as one that was made without a network: give Delta's jars in PTEC_JARS" >&2
  exit 2
fi
jars=${PTEC_JARS:-$(python - "$warehouse/jars.json" <<'PYTHON'
import json, sys
jars = json.load(open(sys.argv[1]))["jars"].split(",")
print(":".join(jar.removeprefix("file://") for jar in jars if "/io.delta" in jar or "unitycatalog" in jar))
PYTHON
)}

exec spark-submit --master "${PTEC_MASTER:-local[2]}" --name ptec-thrift \
  --class org.apache.spark.sql.hive.thriftserver.HiveThriftServer2 \
  --driver-memory 1g --driver-class-path "$jars" \
  --driver-java-options "'-Dderby.stream.error.file=$warehouse/derby.log'" \
  --conf spark.jars.packages= \
  --conf "spark.sql.warehouse.dir=$warehouse/tables" \
  --conf "spark.hadoop.javax.jdo.option.ConnectionURL=jdbc:derby:;databaseName=$warehouse/metastore" \
  --conf spark.sql.shuffle.partitions=2 --conf spark.databricks.delta.snapshotPartitions=2 \
  spark-internal \
  --hiveconf hive.server2.thrift.bind.host=127.0.0.1 --hiveconf "hive.server2.thrift.port=$port"
