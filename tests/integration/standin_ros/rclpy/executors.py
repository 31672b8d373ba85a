import threading

from rclpy import record


class ExternalShutdownException(Exception):
    pass


class MultiThreadedExecutor:
    def __init__(self):
        self.nodes, self.over = [], threading.Event()

    def add_node(self, node):
        self.nodes.append(node)
        record("add_node", node.name)

    def spin(self):
        """Runs what actions put into `node.callbacks`, in the thread that spins."""
        assert threading.current_thread() is not threading.main_thread()
        record("spin")
        while not self.over.wait(0.01):
            for node in self.nodes:
                while node.callbacks:
                    node.callbacks.pop(0)()

    def shutdown(self, timeout_sec=None):
        self.over.set()
        record("executor.shutdown")
