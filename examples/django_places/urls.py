from django.urls import path

from examples.django_places.views import ReverseView, SearchView

urlpatterns = [
    path("search", SearchView.as_view(), name="api-places-search"),
    path("reverse", ReverseView.as_view(), name="api-places-reverse"),
]
