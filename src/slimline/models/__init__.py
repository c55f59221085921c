"""The model zoo: a name, or the import path of the user's own, to a network.

A model is a class or function `(input_shape, classes, *, parameters…) -> nn.Module` that maps images scaled to [0, 1] and
normalized, [batch channels height width], to logits, [batch classes].
"""

from slimline.registry import Table

MODELS: Table = {
    "resnet": "slimline.models.resnet:ResNet",
    "wide_resnet": "slimline.models.wide_resnet:WideResNet",
    "densenet": "slimline.models.densenet:DenseNet",
    "mobilenet": "slimline.models.mobilenet:MobileNet",
    "mobilenet_v2": "slimline.models.mobilenet_v2:MobileNetV2",
    "vit": "slimline.models.vit:ViT",
    "lenet5": "slimline.models.lenet5:LeNet5",
    "mlp": "slimline.models.mlp:MLP",
    "lenet300": "slimline.models.mlp:lenet300",
    "binarynet": "slimline.models.binarynet:BinaryNet",
    "binarynet_conv": "slimline.models.binarynet:BinaryConvNet",
}
