"""Models by name: this import list is the registry."""

from medjax.models.lenet import LeNet5 as LeNet5
from medjax.models.resnet import ResNet as ResNet
from medjax.models.resnet import ResNet18 as ResNet18
from medjax.models.resnet import ResNet34 as ResNet34
from medjax.models.resnet import ResNet50 as ResNet50
from medjax.models.unet import UNet as UNet
