import numpy as np
import pytest
import torch

from fedcore.errors import NotFoundError
from fedcore.plans import ModelSpec
from fedcore.tasks import churn
from fedcore.tasks.task import TaskSpec, initial_weights, load_into, load_task, shapes_of

MODELS = {
    "logistic": ModelSpec(kind="logistic"),
    "mlp": ModelSpec(kind="mlp", hidden=(16, 4)),
}


def test_the_churn_task_is_installed_under_its_name():
    task = load_task("churn")
    assert task is churn.task
    assert task.spec == TaskSpec(name="churn", label="binary", models=("logistic", "mlp"))


def test_a_task_that_is_not_installed_is_named():
    with pytest.raises(NotFoundError) as error:
        load_task("segmentation-of-tomorrow")
    assert error.value.code == "task.unknown"
    assert "segmentation-of-tomorrow" in error.value.public


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_are_a_function_of_the_arguments_alone(name):
    torch.manual_seed(1)
    first = initial_weights(churn.task, MODELS[name], 5)
    torch.manual_seed(2)
    torch.rand(100)
    second = initial_weights(churn.task, MODELS[name], 5)
    assert list(first) == list(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert {value.dtype for value in first.values()} == {np.dtype(np.float64)}


def test_making_initial_weights_leaves_the_librarys_generator_to_others():
    torch.manual_seed(1)
    churn.task.build(MODELS["mlp"], 5)
    expected = torch.rand(3)
    torch.manual_seed(1)
    initial_weights(churn.task, MODELS["mlp"], 5)
    assert torch.equal(torch.rand(3), expected)


def test_hidden_layers_start_uniform_within_one_over_the_root_of_their_inputs():
    model = ModelSpec(kind="mlp", hidden=(400, 16))
    weights = initial_weights(churn.task, model, 25)
    for name, fan_in in (("0.weight", 25), ("2.weight", 400)):
        scaled = weights[name].ravel() * np.sqrt(fan_in)
        assert np.abs(scaled).max() <= 1
        assert scaled.std() == pytest.approx(1 / np.sqrt(3), rel=0.03)
        assert abs(scaled.mean()) < 0.03


@pytest.mark.parametrize("name", MODELS)
def test_biases_and_the_output_layer_start_at_zero(name):
    weights = initial_weights(churn.task, MODELS[name], 5)
    last = max(int(key.split(".")[0]) for key in weights)
    zero = {key for key, value in weights.items() if not value.any()}
    assert zero == {key for key in weights if key.endswith("bias") or key == f"{last}.weight"}


@pytest.mark.parametrize("name", MODELS)
def test_weights_loaded_into_a_module_are_the_ones_that_come_out(name):
    module = churn.task.build(MODELS[name], 5)
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(size=shape) for key, shape in shapes_of(module).items()}
    load_into(module, weights)
    for key, value in module.named_parameters():
        assert np.array_equal(value.detach().numpy(), weights[key])
        assert value.requires_grad
