"""Models by name: this import list is the registry."""

from medjax.models.alexnet import AlexNet as AlexNet
from medjax.models.concept_bottleneck import (
  ConceptBottleneck as ConceptBottleneck,
)
from medjax.models.convnext import ConvNeXt as ConvNeXt
from medjax.models.convnext import ConvNeXtS as ConvNeXtS
from medjax.models.convnext import ConvNeXtT as ConvNeXtT
from medjax.models.densenet import DenseNet as DenseNet
from medjax.models.densenet import DenseNet121 as DenseNet121
from medjax.models.densenet import DenseNet169 as DenseNet169
from medjax.models.efficientnet import EfficientNet as EfficientNet
from medjax.models.efficientnet import EfficientNetB0 as EfficientNetB0
from medjax.models.efficientnet import EfficientNetB1 as EfficientNetB1
from medjax.models.efficientnet import EfficientNetB2 as EfficientNetB2
from medjax.models.efficientnet import EfficientNetB3 as EfficientNetB3
from medjax.models.efficientnet import EfficientNetB4 as EfficientNetB4
from medjax.models.encoder_decoder import EncoderDecoder as EncoderDecoder
from medjax.models.fusion import Fusion as Fusion
from medjax.models.inception import InceptionV3 as InceptionV3
from medjax.models.lenet import LeNet5 as LeNet5
from medjax.models.mednext import MedNeXt as MedNeXt
from medjax.models.mednext import MedNeXtB as MedNeXtB
from medjax.models.mednext import MedNeXtL as MedNeXtL
from medjax.models.mednext import MedNeXtM as MedNeXtM
from medjax.models.mednext import MedNeXtS as MedNeXtS
from medjax.models.mobilenet import MobileNet as MobileNet
from medjax.models.mobilenet import MobileNetV2 as MobileNetV2
from medjax.models.mobilenet import MobileNetV3Large as MobileNetV3Large
from medjax.models.mobilenet import MobileNetV3Small as MobileNetV3Small
from medjax.models.resenc import ResEncUNet as ResEncUNet
from medjax.models.resnet import ResNet as ResNet
from medjax.models.resnet import ResNet18 as ResNet18
from medjax.models.resnet import ResNet34 as ResNet34
from medjax.models.resnet import ResNet50 as ResNet50
from medjax.models.resnet import ResNet101 as ResNet101
from medjax.models.resnet import ResNet152 as ResNet152
from medjax.models.segresnet import SegResNet as SegResNet
from medjax.models.swin_unetr import SwinUNETR as SwinUNETR
from medjax.models.unet import UNet as UNet
from medjax.models.unet2015 import UNet2015 as UNet2015
from medjax.models.unet2018 import UNet2018 as UNet2018
from medjax.models.unetr import UNETR as UNETR
from medjax.models.vgg import VGG as VGG
from medjax.models.vgg import VGG11 as VGG11
from medjax.models.vgg import VGG11BN as VGG11BN
from medjax.models.vgg import VGG13 as VGG13
from medjax.models.vgg import VGG13BN as VGG13BN
from medjax.models.vgg import VGG16 as VGG16
from medjax.models.vgg import VGG16BN as VGG16BN
from medjax.models.vgg import VGG19 as VGG19
from medjax.models.vgg import VGG19BN as VGG19BN
from medjax.models.vit import ViT as ViT
from medjax.models.vit import ViTB16 as ViTB16
from medjax.models.vit import ViTS16 as ViTS16
from medjax.models.vnet import VNet as VNet
