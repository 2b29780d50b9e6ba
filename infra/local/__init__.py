"""Weir and what stands around it as plain processes on this machine: stores, nodes, a load balancer.

Used by `infra/cluster` and by the tests. Standard library only. Everything listens on the loopback.
"""
from .haproxy import LoadBalancer
from .node import Node
from .process import Process, ProcessDied, free_port, wait_until
from .stores import FileStore, LocalStack, MinIO, SETUP

__all__ = [
    "FileStore", "LoadBalancer", "LocalStack", "MinIO", "Node", "Process", "ProcessDied", "SETUP",
    "free_port", "wait_until",
]
