"""Churn: will a customer have left by the end of the label's horizon?"""

from fedcore.tasks.binary import BinaryTask
from fedcore.tasks.task import TaskSpec

task = BinaryTask(TaskSpec(name="churn", label="binary", models=("logistic", "mlp")))
