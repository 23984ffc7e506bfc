"""Churn: will a customer have left by the end of the label's horizon?"""

from fedcore.plans import TaskSpec
from fedcore.tasks.binary import BinaryTask

task = BinaryTask(TaskSpec(name="churn", label="binary", models=("logistic", "mlp")))
