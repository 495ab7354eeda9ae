// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A parsed HTTP request, reduced to what the routes look at.
package struct Request: Sendable, Equatable {
    package enum Method: Sendable, Equatable {
        case get
        case head
        case other(String)

        package init(_ name: String) {
            switch name {
            case "GET": self = .get
            case "HEAD": self = .head
            default: self = .other(name)
            }
        }
    }

    package var method: Method
    /// The percent-decoded path, always beginning with `/`.
    package var path: String
    package var query: Query

    package init(method: Method = .get, path: String, query: Query = Query()) {
        self.method = method
        self.path = path
        self.query = query
    }

    /// Parses the request target of a request line, in origin form (`/a?b=c`) or absolute form (`http://host/a?b=c`).
    ///
    /// - Throws: a problem with status 400 for any other form and for a malformed escape.
    package init(method: Method, target: String) throws(RequestProblem) {
        let origin = try Self.originForm(of: target)
        let parts = origin.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard let rawPath = parts.first, let path = PercentEncoding.decode(rawPath, plusIsSpace: false) else {
            throw .badRequest("malformed escape in the path")
        }
        self.init(method: method, path: path, query: try Query(parsing: parts.count > 1 ? parts[1] : ""))
    }

    private static func originForm(of target: String) throws(RequestProblem) -> Substring {
        // A fragment never belongs into a request, but some clients send it.
        let target = target.prefix { $0 != "#" }
        if target.hasPrefix("/") { return target }
        for scheme in ["http://", "https://"] where target.lowercased().hasPrefix(scheme) {
            let afterScheme = target.dropFirst(scheme.count)
            let tail = afterScheme.drop { $0 != "/" && $0 != "?" }
            if tail.hasPrefix("/") { return tail }
            return "/" + tail
        }
        throw .badRequest("the request target must begin with '/'")
    }
}
