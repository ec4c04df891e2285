import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;

/** Sends with the OpenTelemetry SDK of Java, configured by its environment alone; prints what it has sent. */
public class Send {
  public static void main(String[] args) {
    OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
    var tracer = sdk.getTracer("sender");
    for (int i = 0; i < 300; i++) {
      var span = tracer.spanBuilder("span " + i).setAttribute("i", i).setAttribute("text", "München 🚀").startSpan();
      span.end();
      System.out.println("span " + span.getSpanContext().getTraceId() + " " + span.getSpanContext().getSpanId());
    }
    var logger = sdk.getLogsBridge().get("sender");
    for (int i = 0; i < 200; i++) {
      logger.logRecordBuilder().setBody("line " + i).emit();
      System.out.println("log line " + i);
    }
    var counter = sdk.getMeter("sender").counterBuilder("sent").build();
    for (int shop = 0; shop < 50; shop++) {
      counter.add(shop + 1, Attributes.of(AttributeKey.stringKey("shop"), "" + shop));
      System.out.println("point sent " + shop + " " + (shop + 1));
    }
    sdk.close();
  }
}
