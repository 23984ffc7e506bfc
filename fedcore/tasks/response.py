"""Response: will a customer do what is hoped for (answer a campaign, convert, buy more) by the end
of the label's horizon?

The model is that of churn. It is a task of its own because documents name tasks: a DPIA, a node's
policy or a stop for one of them says nothing of the other.
"""

from fedcore.tasks.binary import BinaryTask
from fedcore.tasks.task import TaskSpec

task = BinaryTask(TaskSpec(name="response", label="binary", models=("logistic", "mlp")))
