// swift-tools-version: 6.2
import PackageDescription

// Modules are listed bottom-up; a target may only depend on targets above it (docs/architecture.md).

let swiftSettings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]
// Tests are built with the release binaries, from the same objects: what is tested is what is shipped, and nothing is
// compiled twice.
let testableInRelease: SwiftSetting = .unsafeFlags(["-enable-testing"], .when(configuration: .release))
// Of the tests themselves nobody needs a fast version, and making one takes longer than it saves.
let unoptimized: SwiftSetting = .unsafeFlags(["-Onone"], .when(configuration: .release))

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")
let nioFoundationCompat: Target.Dependency = .product(name: "NIOFoundationCompat", package: "swift-nio")
let nioHTTPTypes: Target.Dependency = .product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioHTTPTypesHTTP1: Target.Dependency = .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore: Target.Dependency = .product(name: "HummingbirdCore", package: "hummingbird")
let asyncHTTPClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let grdbSQLite: Target.Dependency = .product(name: "GRDBSQLite", package: "GRDB.swift")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let jwt: Target.Dependency = .product(name: "JWTKit", package: "jwt-kit")
let systemPackage: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")

func module(
  _ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource]? = nil,
  linkerSettings: [LinkerSetting] = []
) -> Target {
  .target(
    name: name, dependencies: dependencies + (name == "Concurrency" ? [] : ["Concurrency"]), path: "Sources/\(name)",
    resources: resources,
    swiftSettings: swiftSettings + [testableInRelease], linkerSettings: linkerSettings)
}

func tests(_ name: String, _ path: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["Concurrency"], path: "Tests/\(path)", exclude: exclude,
    swiftSettings: swiftSettings + [unoptimized])
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  tests(name, name, dependencies, exclude: exclude)
}

let hostAgentTestDependencies: [Target.Dependency] = [
  "HostAgent", "HostAPI", "Hypervisor", "Disks", "Images", "SandboxNetwork", "Snapshots", "Pager", "LinuxSystem",
  "Model", nioCore,
  logging, systemPackage,
]

let connectStack: [Target.Dependency] = [
  "Connect", "ConnectServer", "ConnectClient", "Protos", asyncHTTPClient, nioCore, nioPosix, nioHTTP1, httpTypes,
  hummingbird, hummingbirdCore, lifecycle,
  logging, protobuf,
]

let package = Package(
  name: "martlet",
  products: [
    .executable(name: "martlet", targets: ["martlet"]),
    .executable(name: "envd", targets: ["envd"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    // Without its default traits Hummingbird needs FoundationEssentials only, which keeps the guest agent small.
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0", traits: []),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.0"),
  ],
  targets: [
    // C: numbers, structs and system calls that Swift cannot import; no logic. _GNU_SOURCE is for our own C only: in a
    // header it would give glibc's structs a second shape beside that of Swift's Glibc module.
    .target(name: "CLinux", path: "Sources/CLinux", cSettings: [.define("_GNU_SOURCE")]),
    .systemLibrary(name: "CArgon2", path: "Sources/CArgon2", providers: [.apt(["libargon2-dev"])]),
    // Preloaded into QEMU. Compiled here to be checked; the library itself is linked by scripts/build-shim, without the
    // Swift runtime.
    .target(name: "QEMUPagerShim", path: "Sources/QEMUPagerShim", cSettings: [.define("_GNU_SOURCE")]),
    .systemLibrary(name: "CPostgres", path: "Sources/CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "CZlib", path: "Sources/CZlib", providers: [.apt(["zlib1g-dev"])]),

    // Base
    // Every other module depends on it implicitly.
    module("Concurrency"),
    module("Model"),
    module("HostAPI", ["Model", nioCore]),
    module("Telemetry", [logging]),
    module("Protos", [protobuf]),
    module("Connect", [nioCore, httpTypes, protobuf]),
    module("ConnectServer", ["Connect", nioCore, httpTypes, hummingbird, hummingbirdCore, protobuf, logging]),
    module("ConnectClient", ["Connect", nioCore, nioHTTP1, asyncHTTPClient, protobuf, logging]),
    module(
      "WebSocket",
      [
        nioCore, nioPosix, nioHTTP1, nioWebSocket, nioHTTPTypes, nioHTTPTypesHTTP1, httpTypes, hummingbird,
        hummingbirdCore, crypto,
        lifecycle, logging,
      ]),

    // Kernel
    module("LinuxSystem", ["CLinux", systemPackage]),

    // Data
    module("Qcow", ["LinuxSystem", systemPackage]),
    module("Disks", ["Model", "LinuxSystem", "Qcow", systemPackage]),
    module("SandboxNetwork", ["Model", "LinuxSystem", logging, systemPackage]),
    module("Hypervisor", ["Model", "LinuxSystem", systemPackage]),
    module("QEMU", ["Hypervisor", "Model", "LinuxSystem", nioCore, nioPosix, crypto, logging, systemPackage]),
    module("Images", ["Model", "LinuxSystem", crypto, logging, systemPackage]),
    module("Snapshots", ["Model", "CLinux", "LinuxSystem", "Qcow", crypto, logging, systemPackage]),
    module("Pager", ["Snapshots", "Model", "CLinux", "LinuxSystem", logging, systemPackage]),

    // Agent
    module(
      "Envd",
      [
        "CLinux", "CZlib", "LinuxSystem", "Protos", "Connect", "ConnectServer", hummingbird, hummingbirdCore, nioCore,
        nioPosix, httpTypes, nioHTTPTypes,
        crypto, logging,
        protobuf, systemPackage, lifecycle,
      ]),
    module(
      "GuestClient",
      [
        "Model", "HostAPI", "Protos", "ConnectClient", "Connect", asyncHTTPClient, nioCore, nioPosix, nioHTTP1, logging,
        protobuf,
      ]),
    // Calls between a host and the control planes of other processes: messages, server, client.
    module(
      "HostRPC",
      [
        "Model", "HostAPI", "Protos", "Connect", "ConnectServer", "ConnectClient", "WebSocket", hummingbird,
        hummingbirdCore,
        asyncHTTPClient, nioCore, nioHTTP1, httpTypes, crypto, lifecycle, logging, protobuf,
      ]),
    module(
      "HostAgent",
      [
        "Model", "HostAPI", "LinuxSystem", "Hypervisor", "Disks", "SandboxNetwork", "Images", "Snapshots", "Pager",
        "GuestClient", nioCore, grdb, asyncHTTPClient, lifecycle, logging, systemPackage,
      ]),

    // Control plane
    // The migrations become part of the program; nothing lies beside it.
    module(
      "Persistence", ["Model", "CPostgres", "LinuxSystem", grdb, grdbSQLite, logging],
      resources: [.embedInCode("Migrations/SQLite"), .embedInCode("Migrations/PostgreSQL")]),
    module(
      "ControlPlane",
      ["Model", "HostAPI", "Telemetry", "Persistence", "CArgon2", crypto, jwt, lifecycle, logging, nioCore]),
    module(
      "API",
      [
        "Model", "HostAPI", "ControlPlane", "Persistence", "WebSocket", hummingbird, hummingbirdCore, httpTypes,
        nioCore, nioHTTP1,
        crypto, lifecycle, logging,
      ], resources: [.embedInCode("OpenAPI"), .embedInCode("Console"), .embedInCode("Documentation")]),

    // Edge
    module("APIClient", ["Model", "WebSocket", asyncHTTPClient, nioCore, nioPosix, nioHTTP1, logging]),
    module("CommandLine", ["Model", "APIClient", "LinuxSystem", arguments, nioCore, nioPosix, systemPackage]),

    // Tests: a host without machines, databases of one's own.
    module(
      "TestSupport",
      [
        "Model", "HostAPI", "HostRPC", "LinuxSystem", "Persistence", asyncHTTPClient, nioCore,
        lifecycle, logging, systemPackage,
      ]),

    // The composition root: the only room that names concrete drivers and stores.
    module(
      "Composition",
      [
        "APIClient", "CommandLine", "API", "ControlPlane", "Persistence", "HostAgent", "HostAPI", "HostRPC",
        "GuestClient", "QEMU", "Disks",
        "SandboxNetwork",
        "Snapshots", "Pager", "Images", "LinuxSystem", "Model", "Telemetry", asyncHTTPClient, lifecycle, unixSignals,
        nioCore, logging,
        systemPackage,
      ]),

    // Executables
    // Measures repositories on a full database (benchmarks/run).
    .executableTarget(
      name: "martlet-database-bench", dependencies: ["ControlPlane", "Persistence", "Model", logging],
      path: "benchmarks/Database",
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "martlet", dependencies: ["CommandLine", "Composition"], path: "Sources/martlet",
      swiftSettings: swiftSettings,
      // With the Swift runtime inside, so that bin/martlet is one file.
      linkerSettings: [.unsafeFlags(["-static-stdlib"], .when(configuration: .release))]
        + ["CoreFoundation", "_FoundationICU", "_FoundationCShims", "_FoundationCollections"].map {
          .linkedLibrary($0, .when(configuration: .release))
        }),
    .executableTarget(
      name: "envd", dependencies: ["Envd", "CLinux", "LinuxSystem", logging, nioCore, nioPosix],
      path: "Sources/envd", swiftSettings: swiftSettings,
      linkerSettings: [
        .unsafeFlags(["-static-executable"]), .linkedLibrary("_FoundationCShims"),
        .linkedLibrary("_FoundationCollections"),
      ]),

    // What `make bench` measures reads against.
    .executableTarget(
      name: "empty-server", dependencies: [hummingbird, logging, nioCore], path: "benchmarks/EmptyServer",
      swiftSettings: swiftSettings),

    // Tests, by tier (scripts/run-tests). Unit: no root, no network, seconds.
    .target(
      name: "FakeServer", dependencies: ["Concurrency", nioCore, nioPosix, nioHTTP1, nioWebSocket],
      path: "Tests/FakeServer",
      swiftSettings: swiftSettings),
    tests("ConcurrencyTests", []),
    tests("ModelTests", ["Model"]),
    tests("TelemetryTests", ["Telemetry", logging]),
    tests("ConnectTests", connectStack, exclude: ["Interop"]),
    tests("GuestClientTests", connectStack + ["GuestClient", "Model", "HostAPI"]),
    tests("SandboxNetworkTests", ["SandboxNetwork", "Model", "LinuxSystem", logging, systemPackage]),
    tests("QcowTests", ["Qcow", "LinuxSystem", systemPackage], exclude: ["Corpus"]),
    tests("DisksTests", ["Disks", "Model", "LinuxSystem", systemPackage]),
    tests("QEMUTests", ["QEMU", "Hypervisor", "Model", "LinuxSystem", systemPackage]),
    tests("SnapshotsTests", ["Snapshots", "Qcow", "CLinux", "Model", "LinuxSystem", logging, systemPackage]),
    tests("PagerTests", ["Pager", "Snapshots", "Model", "LinuxSystem", logging, systemPackage]),
    tests("ImagesTests", ["Images", "Model", "LinuxSystem", systemPackage]),
    tests(
      "EnvdTests",
      connectStack + ["Envd", "CLinux", "CZlib", "LinuxSystem", crypto, systemPackage]),
    tests("HostAgentTests", hostAgentTestDependencies),
    tests(
      "HostRPCTests",
      [
        "HostRPC", "HostAPI", "ConnectClient", "Connect", "Protos", "TestSupport", "Model",
        asyncHTTPClient, nioCore, nioPosix, nioHTTP1, protobuf,
      ]),
    tests("APIClientTests", ["APIClient", "WebSocket", "Model", "FakeServer", nioCore, nioHTTP1, nioWebSocket]),
    tests(
      "CommandLineTests",
      ["CommandLine", "APIClient", "LinuxSystem", "Model", "FakeServer", arguments, nioCore, nioHTTP1]),

    // Kernel: root; namespaces, control groups, real processes, real file systems.
    tests("KernelSystemTests", "KernelTests/System", ["LinuxSystem", systemPackage]),
    tests(
      "KernelNetworkTests", "KernelTests/Network", ["SandboxNetwork", "Model", "LinuxSystem", logging, systemPackage]),
    tests("KernelDisksTests", "KernelTests/Disks", ["Disks", "Model", "LinuxSystem", systemPackage]),
    tests("KernelImagesTests", "KernelTests/Images", ["Images", "Model", "LinuxSystem", systemPackage]),
    tests(
      "KernelSnapshotsTests", "KernelTests/Snapshots",
      ["Snapshots", "Disks", "Model", "LinuxSystem", logging, systemPackage]),
    .executableTarget(name: "pager-machine", path: "Tests/PagerMachine", cSettings: [.define("_GNU_SOURCE")]),
    tests(
      "KernelPagerTests", "KernelTests/Pager",
      ["Pager", "Snapshots", "CLinux", "Model", "LinuxSystem", logging, systemPackage]),
    tests(
      "KernelQEMUTests", "KernelTests/QEMU",
      [
        "QEMU", "Hypervisor", "Pager", "Snapshots", "Images", "Disks", "SandboxNetwork", "GuestClient", "HostAPI",
        "Model",
        "LinuxSystem", asyncHTTPClient, nioCore, logging, systemPackage,
      ]),
    tests("KernelEnvdTests", "KernelTests/Envd", connectStack + ["Envd", "LinuxSystem", systemPackage]),

    // Integration: SQLite and PostgreSQL, simulated hosts.
    tests("PersistenceTests", ["Persistence", "Model", "TestSupport", logging]),
    tests(
      "ControlPlaneTests",
      ["ControlPlane", "Persistence", "Model", "HostAPI", "TestSupport", crypto, nioCore, logging, lifecycle]),
    tests(
      "APITests",
      [
        "API", "WebSocket", "ControlPlane", "Persistence", "Model", "HostAPI", "TestSupport", hummingbird,
        hummingbirdCore, httpTypes,
        crypto,
        nioCore, nioPosix, nioHTTP1, nioWebSocket, asyncHTTPClient, lifecycle, logging,
      ]),

    // End to end: the release binaries and real microVMs.
    .executableTarget(
      name: "martlet-crash-test",
      dependencies: ["CommandLine", "Composition", "HostAgent", "Model", "Persistence", "Snapshots"],
      path: "Tests/CrashServer",
      swiftSettings: swiftSettings),
    tests(
      "EndToEndTests",
      ["LinuxSystem", "TestSupport", asyncHTTPClient, nioCore, nioFoundationCompat, nioHTTP1, systemPackage]),

    // Benchmarks without VMs.
    .executableTarget(
      name: "snapshot-bench", dependencies: ["Snapshots", "Model", "LinuxSystem", logging, systemPackage],
      path: "benchmarks/SnapshotBench",
      swiftSettings: swiftSettings),
  ]
)
