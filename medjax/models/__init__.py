"""Models by name: this import list is the registry."""

from medjax.models.alexnet import AlexNet as AlexNet
from medjax.models.densenet import DenseNet as DenseNet
from medjax.models.densenet import DenseNet121 as DenseNet121
from medjax.models.densenet import DenseNet169 as DenseNet169
from medjax.models.inception import InceptionV3 as InceptionV3
from medjax.models.lenet import LeNet5 as LeNet5
from medjax.models.mobilenet import MobileNet as MobileNet
from medjax.models.mobilenet import MobileNetV2 as MobileNetV2
from medjax.models.mobilenet import MobileNetV3Large as MobileNetV3Large
from medjax.models.mobilenet import MobileNetV3Small as MobileNetV3Small
from medjax.models.resnet import ResNet as ResNet
from medjax.models.resnet import ResNet18 as ResNet18
from medjax.models.resnet import ResNet34 as ResNet34
from medjax.models.resnet import ResNet50 as ResNet50
from medjax.models.resnet import ResNet101 as ResNet101
from medjax.models.resnet import ResNet152 as ResNet152
from medjax.models.unet import UNet as UNet
from medjax.models.vgg import VGG as VGG
from medjax.models.vgg import VGG11 as VGG11
from medjax.models.vgg import VGG11BN as VGG11BN
from medjax.models.vgg import VGG13 as VGG13
from medjax.models.vgg import VGG13BN as VGG13BN
from medjax.models.vgg import VGG16 as VGG16
from medjax.models.vgg import VGG16BN as VGG16BN
from medjax.models.vgg import VGG19 as VGG19
from medjax.models.vgg import VGG19BN as VGG19BN
