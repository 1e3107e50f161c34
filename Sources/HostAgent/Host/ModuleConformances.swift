import Images
import Model
import SandboxNetwork

// The rooms below know nothing of the host agent's protocols; they have the right shape.

extension SandboxNetworks: NetworkBackend {}

extension ImageStore: TemplateSource {}
