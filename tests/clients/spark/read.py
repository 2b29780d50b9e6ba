"""Reads a table through the catalog of a node with Spark, as a person sets it up: `read.py URI TABLE JARS [CREDENTIAL]`.

Prints one line of JSON: of each partition how many rows there are, the least and the greatest offset, how many offsets,
sums of checksums of keys and values, and the sum of the timestamps in milliseconds.
"""
import json
import sys

from pyspark.sql import SparkSession

uri, table, jars, *credential = sys.argv[1:]
catalog = "spark.sql.catalog.lake"
builder = (
    SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "1g")
    .config("spark.jars", jars).config("spark.sql.session.timeZone", "Asia/Kolkata")
    .config(catalog, "org.apache.iceberg.spark.SparkCatalog").config(f"{catalog}.type", "rest")
    .config(f"{catalog}.uri", uri).config(f"{catalog}.header.X-Iceberg-Access-Delegation", "vended-credentials")
)
for one in credential:
    builder = builder.config(f"{catalog}.credential", one)
spark = builder.getOrCreate()
rows = spark.sql(
    f"SELECT partition, count(*), min(offset), max(offset), count(DISTINCT offset), sum(crc32(key)), sum(crc32(value)), "
    f"sum(unix_millis(timestamp)) FROM lake.weir.{table} GROUP BY partition ORDER BY partition"
)
found = [list(row) for row in rows.collect()]
files = spark.sql(f"SELECT sum(record_count) FROM lake.weir.{table}.files").collect()[0][0]
print(json.dumps({"partitions": found, "in_files": files}))
spark.stop()
