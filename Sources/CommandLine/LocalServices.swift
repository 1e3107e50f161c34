package import APIClient
package import Model

/// Commands that act on this machine instead of a server. The executable provides them, so that this module does not
/// depend on the host agent.
package struct LocalServices: Sendable {
  @TaskLocal package static var current: LocalServices?

  /// Version that `--version` prints.
  package var version: String
  /// Serves until SIGINT or SIGTERM; returns after an orderly stop.
  package var up: @Sendable (UpOptions) async throws -> Void
  /// Further checks of `martlet doctor` (accelerator, database), shown after those of `HostProbes`.
  package var doctor: @Sendable (DoctorOptions) async -> [DoctorCheck]
  /// Builds the guest kernel and the platform templates that are missing or out of date in an image directory.
  package var buildImages: @Sendable (_ imageDirectory: String) async throws -> Void
  /// Builds a template into the image directory.
  package var buildTemplate: @Sendable (TemplateBuildOptions) async throws -> TemplateBuildResult

  /// Creates an account directly in the database of this machine's server.
  package var createUser: @Sendable (LocalUserOptions) async throws -> UserResource

  package init(
    version: String, up: @escaping @Sendable (UpOptions) async throws -> Void,
    doctor: @escaping @Sendable (DoctorOptions) async -> [DoctorCheck] = { _ in [] },
    buildImages: @escaping @Sendable (_ imageDirectory: String) async throws -> Void = { _ in },
    buildTemplate: @escaping @Sendable (TemplateBuildOptions) async throws -> TemplateBuildResult,
    createUser: @escaping @Sendable (LocalUserOptions) async throws -> UserResource = { _ in
      throw APIError(.invalidInput, "this program cannot open a database")
    }
  ) {
    self.version = version
    self.up = up
    self.doctor = doctor
    self.buildImages = buildImages
    self.buildTemplate = buildTemplate
    self.createUser = createUser
  }
}

package struct UpOptions: Sendable, Equatable {
  package static let defaultWarmPoolSize = 2
  package static let warmPoolBounds = 0...64

  package var listen: ListenAddress
  /// Absolute paths.
  package var dataDirectory: String
  package var imageDirectory: String
  package var database: DatabaseChoice
  package var accelerator: AcceleratorChoice
  package var logLevel: String
  /// Whether to run a command in a sandbox once the server is up, as a demonstration.
  package var showsDemo: Bool
  /// Size of the warm pool.
  package var warmPool: Int
  /// Range of the sandboxes' addresses; nil: 10.(200+N).0.0/16, where N is the number of the server on this machine.
  package var networkRange: SandboxNetworkRange?
  package var access: AccessOptions
  /// Used only with a shared database.
  package var host: HostOptions
  /// Whether a host that belonged to another installation is to belong to this database from now on.
  package var adoptsHost: Bool

  package init(
    listen: ListenAddress, dataDirectory: String, imageDirectory: String, database: DatabaseChoice = .embedded,
    accelerator: AcceleratorChoice = .automatic, logLevel: String = "info", showsDemo: Bool = true,
    warmPool: Int = defaultWarmPoolSize, networkRange: SandboxNetworkRange? = nil,
    access: AccessOptions = AccessOptions(), host: HostOptions = HostOptions(), adoptsHost: Bool = false
  ) {
    self.listen = listen
    self.dataDirectory = dataDirectory
    self.imageDirectory = imageDirectory
    self.database = database
    self.accelerator = accelerator
    self.logLevel = logLevel
    self.showsDemo = showsDemo
    self.warmPool = warmPool
    self.networkRange = networkRange
    self.access = access
    self.host = host
    self.adoptsHost = adoptsHost
  }
}

package struct DoctorOptions: Sendable, Equatable {
  package var dataDirectory: String
  package var imageDirectory: String
  package var database: DatabaseChoice
  package var networkRange: SandboxNetworkRange?
}

package struct LocalUserOptions: Sendable, Equatable {
  /// Absolute path.
  package var dataDirectory: String
  package var database: DatabaseChoice
  package var user: NewUser
}

package struct TemplateBuildOptions: Sendable, Equatable {
  package var name: SafeName
  /// Absolute path of a directory or a tar file.
  package var source: String
  package var imageDirectory: String
}

package struct TemplateBuildResult: Sendable, Equatable, Encodable {
  package var name: String
  /// Digest that names the image.
  package var digest: String
  /// Allocated size in bytes.
  package var sizeBytes: Int64

  package init(name: String, digest: String, sizeBytes: Int64) {
    self.name = name
    self.digest = digest
    self.sizeBytes = sizeBytes
  }

  enum CodingKeys: String, CodingKey {
    case name, digest
    case sizeBytes = "size_bytes"
  }
}

/// The accelerator of the VMM.
package enum AcceleratorChoice: String, Sendable, CaseIterable {
  case automatic = "auto"
  case kvm
  case tcg
}
