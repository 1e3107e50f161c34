import NIOCore
import Testing

@testable import Envd

@Suite("multipart bodies")
struct MultipartBodyParserTests {
  private static let type = "multipart/form-data; boundary=\"XbX\""
  private static let body = """
    preamble\r
    --XbX\r
    Content-Disposition: form-data; name="file"; filename="dir/a \\"q\\" b.txt"\r
    Content-Type: text/plain\r
    \r
    one\r
    --Xb \r\n--X\r
    --XbX  \r
    Content-Disposition: form-data; name=other\r
    \r
    \r
    --XbX\r
    Content-Disposition: form-data; name="file"; filename="x"; filename*=UTF-8''%C3%A4\r
    \r
    \r
    \r
    --XbX--\r
    epilogue --XbX
    """

  @Test("the parts do not depend on the chunks in which the body arrives", arguments: [1, 2, 3, 5, 7, 16, 64, 10_000])
  func chunks(size: Int) throws {
    let parts = try Self.parse(Self.body, chunk: size)
    #expect(parts.map(\.headers.filename) == ["dir/a \"q\" b.txt", nil, "ä"])
    #expect(parts.map(\.headers.name) == ["file", "other", "file"])
    #expect(parts.map(\.content) == ["one\r\n--Xb \r\n--X", "", "\r\n"].map { Array($0.utf8) })
    #expect(parts.filter(\.isEnded).count == parts.count)
  }

  @Test("all byte values pass unchanged")
  func binary() throws {
    let content: [UInt8] = (0..<100_000).map { (number: Int) -> UInt8 in
      UInt8(truncatingIfNeeded: number * 7 + number / 256)
    }
    let head = Array("--XbX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n".utf8)
    let parts = try Self.parse(head + content + Array("\r\n--XbX--".utf8), chunk: 4_096)
    #expect(parts.map(\.content) == [content])
  }

  @Test("a backslash before other characters is literal")
  func backslash() {
    #expect(HeaderParameters.parse(#"form-data; filename="C:\dir\\f""#)["filename"] == #"C:\dir\f"#)
  }

  @Test(
    "a body without its closing boundary is refused",
    arguments: ["", "--XbX\r\n", "--XbX\r\nA: b\r\n\r\nabc", "nothing"])
  func truncated(body: String) {
    #expect(throws: FileFailure.self) { try Self.parse(body, chunk: 8) }
  }

  @Test("garbage after a boundary is refused")
  func garbage() {
    #expect(throws: FileFailure.self) { try Self.parse("--XbXgarbage\r\n\r\n", chunk: 100) }
  }

  @Test("headers that never end are refused at the limit, for any chunk size", arguments: [100, 100_000])
  func headerBomb(chunk: Int) {
    #expect(throws: FileFailure.self) {
      try Self.parse("--XbX\r\nA: " + String(repeating: "x", count: 20_000), chunk: chunk)
    }
  }

  @Test("too many parts are refused")
  func partBomb() {
    let body = String(repeating: "--XbX\r\n\r\n\r\n", count: MultipartBodyParser.maximumParts + 1)
    #expect(throws: FileFailure.self) { try Self.parse(body, chunk: 65_536) }
  }

  @Test(
    "a content type needs a boundary of a legal length",
    arguments: [
      "multipart/form-data", "multipart/form-data; boundary=",
      "multipart/form-data; boundary=\(String(repeating: "b", count: 71))",
    ])
  func boundary(type: String) {
    #expect(throws: FileFailure.self) { try MultipartBodyParser(contentType: type) }
  }

  private struct Part {
    let headers: MultipartHeaders
    var content: [UInt8] = []
    var isEnded = false
  }

  private static func parse(_ body: String, chunk: Int) throws -> [Part] {
    try parse(Array(body.utf8), chunk: chunk)
  }

  private static func parse(_ body: [UInt8], chunk: Int) throws -> [Part] {
    var parser = try MultipartBodyParser(contentType: type)
    var parts: [Part] = []
    for start in stride(from: 0, to: body.count, by: chunk) {
      for event in try parser.consume(ByteBuffer(bytes: body[start..<min(start + chunk, body.count)])) {
        switch event {
        case .begin(let headers): parts.append(Part(headers: headers))
        case .content(let content): parts[parts.count - 1].content += Array(content.readableBytesView)
        case .end: parts[parts.count - 1].isEnded = true
        }
      }
    }
    try parser.finish()
    return parts
  }
}
