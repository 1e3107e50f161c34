import Foundation
import Model
import Testing

@testable import Images

@Suite("Template manifest")
struct TemplateManifestTests {
  private static let digest = String(repeating: "0f", count: 32)
  private static let fields: [String: String] = [
    "format": "1", "name": "\"web\"", "team": "\"\(TeamID.platform.wire)\"", "digest": "\"\(digest)\"",
    "image_size_bytes": "67108864",
    "allocated_bytes": "4096", "default_user": "\"user\"", "default_workdir": "\"/home/user\"", "envs": "{\"A\":\"b\"}",
    "created_at": "\"2026-01-02T03:04:05Z\"", "agent_digest": "\"\(digest)\"",
  ]

  private func parse(_ changes: [String: String?]) throws -> TemplateManifest {
    var fields = Self.fields
    for (key, value) in changes { fields[key] = value }
    let json = "{" + fields.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
    return try TemplateManifest.parse(Array(json.utf8), name: try SafeName("web"), team: .platform)
  }

  @Test("a manifest is unchanged after writing and reading")
  func roundTrip() throws {
    let manifest = try parse(["kernel_version": "\"6.1.0\"", "recipe": "3", "later_field": "[]"])
    #expect(try TemplateManifest.parse(try manifest.encoded(), name: manifest.name, team: .platform) == manifest)
    #expect(manifest.imageSizeBytes == 67_108_864)
  }

  @Test(
    "a hostile manifest is refused",
    arguments: [
      ["format": "2"], ["name": "\"other\""], ["name": "\"../web\""],
      ["team": "\"team-\(UUID().uuidString.lowercased())\""],
      ["digest": "\"../../etc/passwd\""], ["digest": "\"\(digest.uppercased())\""], ["digest": nil],
      ["image_size_bytes": "0"],
      ["image_size_bytes": "-4096"], ["image_size_bytes": "4097"], ["image_size_bytes": "99999999999999999"],
      ["image_size_bytes": "1e400"],
      ["allocated_bytes": "-1"], ["default_user": "\"\""], ["default_user": "\"a:b\""], ["default_user": "\"a\\nb\""],
      ["default_workdir": "\"home\""], ["default_workdir": "\"/a\\u0000b\""], ["envs": "{\"A=B\":\"\"}"],
      ["envs": "[]"],
      ["created_at": "\"yesterday\""],
      ["kernel_version": "\"\(String(repeating: "x", count: 500))\""],
    ] as [[String: String?]])
  func hostile(changes: [String: String?]) {
    #expect(throws: (any Error).self) { try parse(changes) }
  }

  @Test(
    "text that is not JSON, and text that is too long, is refused",
    arguments: ["", "{", "null", "[1]", String(repeating: " ", count: 2_000_000)])
  func notJSON(text: String) throws {
    let name = try SafeName("web")
    #expect(throws: ManifestError.self) { try TemplateManifest.parse(Array(text.utf8), name: name, team: .platform) }
  }

  @Test(
    "a kernel manifest with a version that is not one path component is refused",
    arguments: ["", "..", "a/b", ".hidden", "a b", "a\n"])
  func kernelVersion(version: String) {
    #expect(!KernelManifest.isSafeVersion(version))
  }

  @Test("a digest has exactly 64 lower-case hexadecimal digits and converts to its file name and back")
  func digests() throws {
    #expect(ImageDigest(String(repeating: "g", count: 64)) == nil)
    #expect(ImageDigest(String(repeating: "a", count: 63)) == nil)
    let digest = try #require(ImageDigest(Self.digest))
    #expect(ImageDigest(blobName: digest.blobName) == digest)
    #expect(ImageDigest(blobName: "sha256-x.ext4") == nil)
    #expect(
      FileDigest.sha256(of: "abc").hexadecimal == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  }
}
