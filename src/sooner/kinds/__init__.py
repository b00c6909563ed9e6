"""What every parameter of a model is: a hidden matrix, an embedding, the output layer, a gain, a bias, a token.

Methods treat these differently: Muon steps hidden matrices only, weight decay may leave gains and biases alone. A model
says most, by the types of its modules and their place in it; names say less; a bare tensor has nothing but its shape.

    matrix      a weight that multiplies activations: linear, recurrent, attention, convolution, stacked experts, LoRA
    depthwise   a convolution kernel with one input channel per group: a filter per channel, not a matrix
    embedding   a table of rows that are looked up; also where it is tied to the output layer
    head        the weight of the output layer
    gain        what scales elementwise: of a normalisation, a layer scale
    bias        what is added elementwise
    token       a learned input: class token, position table, register, prompt
    scalar      a single number, such as a temperature
"""

from sooner.kinds.modules import roles
from sooner.kinds.names import role_by_shape, roles_by_name
from sooner.kinds.role import WEIGHTS, Kind, Role, bare_name

__all__ = ["WEIGHTS", "Kind", "Role", "bare_name", "role_by_shape", "roles", "roles_by_name"]
