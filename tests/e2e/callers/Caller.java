// A Java program that uses the JDK's own client: java -cp . Caller METHOD URL BODY_FILE ANSWER_FILE; prints status
// and digest. By default that client would rather speak HTTP/2 and says so in its first request (Upgrade: h2c).
// After a change: see COMPILED_FROM in tests/e2e/test_callers.py.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

public class Caller {
    public static void main(String[] arguments) throws Exception {
        String method = arguments[0];
        BodyPublisher body =
            method.equals("POST") ? BodyPublishers.ofFile(Path.of(arguments[2])) : BodyPublishers.noBody();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[1]))
            .method(method, body)
            .header("Content-Type", "application/octet-stream")
            .build();
        var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofFile(Path.of(arguments[3])));
        System.out.println(answer.statusCode() + " " + answer.headers().firstValue("Content-Digest").orElse(""));
    }
}
