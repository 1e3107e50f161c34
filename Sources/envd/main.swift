import Hummingbird
import SwiftProtobuf
let router = Router()
router.get("/health") { _, _ in "ok" }
let app = Application(router: router, configuration: .init(address: .hostname("0.0.0.0", port: 49983)))
try await app.runService()
