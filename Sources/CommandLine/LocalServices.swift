package import APIClient
package import Model

/// The commands that need this machine and not a server. The executable provides them, so that this room names no
/// driver.
package struct LocalServices: Sendable {
  @TaskLocal package static var current: LocalServices?

  /// Shown by `--version`.
  package var version: String
  /// Serves until SIGINT or SIGTERM; returns after an orderly stop.
  package var up: @Sendable (UpOptions) async throws -> Void
  /// Checks that only the executable can make (images, database), shown after those of `HostProbes`.
  package var doctor: @Sendable (DoctorOptions) async -> [DoctorCheck]
  /// Builds the guest kernel and the platform templates that are missing or out of date in an image directory.
  package var buildImages: @Sendable (_ imageDirectory: String) async throws -> Void
  /// Builds a template into the image directory and returns what it made.
  package var buildTemplate: @Sendable (TemplateBuildOptions) async throws -> TemplateBuildResult

  /// Makes an account straight in the database of this machine's server.
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
  /// Whether a sandbox runs a command once the server is up, so that a new user sees that all of it works.
  package var showsDemo: Bool
  /// MicroVMs kept running for sandboxes to come.
  package var warmPool: Int
  package var access: AccessOptions
  /// Of importance only where the database is shared.
  package var host: HostOptions

  package init(
    listen: ListenAddress, dataDirectory: String, imageDirectory: String, database: DatabaseChoice = .embedded,
    accelerator: AcceleratorChoice = .automatic, logLevel: String = "info", showsDemo: Bool = true,
    warmPool: Int = defaultWarmPoolSize,
    access: AccessOptions = AccessOptions(), host: HostOptions = HostOptions()
  ) {
    self.listen = listen
    self.dataDirectory = dataDirectory
    self.imageDirectory = imageDirectory
    self.database = database
    self.accelerator = accelerator
    self.logLevel = logLevel
    self.showsDemo = showsDemo
    self.warmPool = warmPool
    self.access = access
    self.host = host
  }
}

package struct DoctorOptions: Sendable, Equatable {
  package var dataDirectory: String
  package var imageDirectory: String
  package var database: DatabaseChoice
}

package struct LocalUserOptions: Sendable, Equatable {
  /// Absolute.
  package var dataDirectory: String
  package var database: DatabaseChoice
  package var user: NewUser
}

package struct TemplateBuildOptions: Sendable, Equatable {
  package var name: SafeName
  /// A directory or a tar file; absolute.
  package var source: String
  package var imageDirectory: String
}

package struct TemplateBuildResult: Sendable, Equatable, Encodable {
  package var name: String
  /// Content name of the image.
  package var digest: String
  /// Allocated bytes.
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

/// Which accelerator the VMM is to use.
package enum AcceleratorChoice: String, Sendable, CaseIterable {
  case automatic = "auto"
  case kvm
  case tcg
}
