import Images
import Model
import SandboxNetwork

// These modules do not import the host agent's protocols; their types satisfy the requirements.

extension SandboxNetworks: NetworkBackend {}

extension ImageStore: TemplateSource {}
