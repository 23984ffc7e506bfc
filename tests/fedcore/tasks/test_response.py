from importlib.metadata import distribution

from fedcore.tasks import churn, response, segmentation
from fedcore.tasks.task import TaskSpec, load_task


def test_the_response_task_is_installed_under_its_name():
    assert load_task("response") is response.task
    assert response.task.spec == TaskSpec(
        name="response", label="binary", models=("logistic", "mlp")
    )


def test_each_installed_task_answers_to_the_name_it_is_found_by():
    found = distribution("fedpact").entry_points.select(group="fedpact.tasks")
    assert {point.name for point in found} == {point.load().spec.name for point in found}
    assert len(found) == len(
        {churn.task.spec.name, response.task.spec.name, segmentation.task.spec.name}
    )
